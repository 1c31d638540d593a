//! Rules that turn hosts away, in the order they are asked: what a person would name first comes first.

mod alive;
mod bridge;
mod cordon;
mod count;
mod disk;
mod memory;
mod observe_only;
mod only_host;
mod trouble;
mod vcpus;

use super::Ask;

/// One rule.
pub(super) struct Filter {
    /// Stable: counted and recorded under it.
    pub(super) name: &'static str,
    /// Whether the host will do. Allocates nothing.
    pub(super) fits: fn(&Ask<'_>) -> bool,
    /// Why it will not, for people; asked only for hosts that are shown.
    pub(super) why: fn(&Ask<'_>) -> String,
}

/// All of them.
pub(super) const ALL: [Filter; 10] = [
    only_host::FILTER,
    observe_only::FILTER,
    alive::FILTER,
    trouble::FILTER,
    cordon::FILTER,
    bridge::FILTER,
    count::FILTER,
    vcpus::FILTER,
    memory::FILTER,
    disk::FILTER,
];

/// Bytes, for people.
fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let value = bytes as f64 / dewpoint_proto::limits::GIB as f64;
    format!("{value:.1} GiB")
}
