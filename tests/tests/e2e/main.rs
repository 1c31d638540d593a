//! The real binaries, real libvirt, tiny guests: each test is named by what it promises. One binary, so that it is linked
//! once; each test has a lab of its own, so that all may run at once.
#![expect(clippy::unwrap_used, reason = "all of this is tests: what cannot be unwrapped has failed")]

mod agent_alone;
mod agent_crashes;
mod anti_spoofing;
mod behind_our_back;
mod by_itself;
mod command_line;
mod coordinator_crashes;
mod doctor;
mod foreign_domains;
mod full_disk;
mod guest_agent;
mod half_open;
mod hostile_input;
mod journal_damage;
mod libvirt_faults;
mod life;
mod matching;
mod observing;
mod orphans;
mod recycle;
mod snapshots;
mod stopping;
mod undisturbed;
mod watchdog;
mod why;
