//! What every store must do: one suite, called unchanged for each implementation.
//!
//! `contract_suite!(factory)` makes a test of each case. A case gets a fresh store and speaks to it through the trait
//! alone; [`Factory::after_crash`] opens what was durable when the process was killed.

mod accounting;
mod admission;
mod audit;
mod catalogue;
mod destroys;
mod durability;
pub(crate) mod fixture;
mod force;
mod history;
mod hosts;
mod lists;
mod reconcile;
mod reports;

use super::Store;

/// Makes stores for the cases.
pub(crate) trait Factory: Sync {
    /// The implementation under test.
    type Store: Store;
    /// An empty one.
    fn fresh(&self) -> Self::Store;
    /// What a process that was killed now would find: the other store goes on living, unwarned.
    fn after_crash(&self, store: &Self::Store) -> Self::Store;
}

macro_rules! cases {
    ($($area:ident: $($case:ident),* $(,)?;)*) => {
        $($(
            pub(crate) mod $case {
                pub(crate) async fn run<F: super::Factory>(factory: F) {
                    super::$area::$case(&factory).await;
                }
            }
        )*)*

        /// A test of each case, for one implementation.
        macro_rules! contract_suite {
            ($factory:expr) => {
                $($(
                    #[tokio::test]
                    async fn $case() {
                        $crate::store::contract::$case::run($factory).await;
                    }
                )*)*
            };
        }
        pub(crate) use contract_suite;
    };
}

cases! {
    admission: a_create_is_assigned_with_seq_generation_and_claim, the_same_request_has_the_same_answer,
        another_request_under_the_same_id_is_refused, a_vm_id_is_used_once, one_unfinished_event_per_vm,
        only_destroy_and_cancel_supersede, what_waits_is_ended_by_the_coordinator, a_lost_claim_leaves_nothing,
        pending_events_are_placed_or_expire, an_address_is_given_out_once;
    accounting: claims_never_exceed_and_sums_equal_rows, a_cordoned_or_held_host_gets_nothing,
        no_more_than_the_most_vms;
    hosts: a_lost_term_writes_nothing, a_diverged_host_is_refused_events, recovery_ends_by_a_persons_word,
        hold_and_cordon_are_kept, acceptance_is_taken_from_hello;
    reconcile: a_new_queue_begins_by_a_persons_word, a_copy_from_before_a_reconciliation_diverges,
        another_machine_is_accepted_and_the_queue_goes_on, a_host_that_is_ahead_is_taken_over,
        another_history_is_not_taken_over, what_an_ended_recovery_passes_over_is_unknown,
        a_host_that_was_ahead_and_is_not_any_more_goes_on,
        a_retired_hosts_vms_are_gone_only_with_its_disks, a_host_takes_the_place_of_another;
    reports: a_report_is_stored_once, a_gap_is_refused, only_proof_releases_the_claim,
        a_late_report_that_differs_is_kept, a_snapshot_comes_into_the_catalogue,
        what_was_made_on_the_host_gets_its_rows,
        a_destroyed_vm_that_its_host_built_again_lives_again, older_states_are_passed_over;
    catalogue: an_image_in_use_stays, a_name_points_at_one_image, a_network_in_use_stays;
    lists: pages_cover_all_once, the_queue_has_no_gaps;
    audit: what_people_do_is_kept_with_who_and_why;
    force: a_person_answers_for_a_silent_host, what_its_host_would_still_carry_out_is_cancelled_first,
        a_forced_vm_is_freed_by_its_hosts_proof;
    history: what_was_moved_is_found_as_before, what_its_host_has_not_taken_stays_to_be_delivered,
        what_comes_late_reaches_what_was_moved, bodies_go_after_a_time_and_the_rest_stays;
    destroys: destroys_beyond_the_limit_are_refused_for_a_minute, a_person_sets_the_limit_over_the_configured_one;
    durability: what_was_answered_is_there_after_a_crash;
}
