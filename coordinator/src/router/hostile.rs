//! Whatever a host says, the other hosts are served, and what it says is stored or refused, never half.

mod bytes;
mod false_hello;
mod raw;

use dewpoint_proto::wire::agent::{self as wire, from_agent::Message};
use dewpoint_proto::wire::{event, fleet};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::testing::{Agent, Coordinator, Link};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..6_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), any::<i64>()]
}

/// An id, something that is none, or nothing.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..9_u8).prop_map(|n| format!("018f3c5e-7c1a-7d3e-9a5b-00000000000{n}")),
        ".{0,40}",
        Just(String::new())
    ]
}

fn vm_state() -> impl Strategy<Value = event::VmState> {
    (id(), ".{0,80}", number(), any::<i32>(), id(), id(), any::<bool>(), number()).prop_map(
        |(vm_id, name, generation, power, run, disk, gone, as_of_report_seq)| event::VmState {
            power_detail: name.clone(),
            incident: Some(event::Incident {
                kind: power.wrapping_mul(7),
                at_ms: generation.cast_signed(),
                detail: name.clone(),
                run: vm_id.clone(),
            }),
            keeping: name.clone(),
            restarts: u32::MAX,
            restart_at_ms: as_of_report_seq.cast_signed(),
            attention: Some(event::Cause { reason: name.clone(), text: name.clone(), ..Default::default() }),
            vm_id,
            name,
            generation,
            power,
            wanted_on: gone,
            run,
            disk,
            as_of_report_seq,
            gone,
        },
    )
}

fn outcome() -> impl Strategy<Value = Option<event::Outcome>> {
    use event::outcome::End;
    let cause = (".{0,80}", ".{0,20}").prop_map(|(text, reason)| event::Cause {
        text,
        reason,
        ..event::Cause::default()
    });
    let image = (".{0,70}", number(), number()).prop_map(|(digest, size_bytes, virtual_size_bytes)| {
        event::ImageRef { digest, size_bytes, virtual_size_bytes, ..event::ImageRef::default() }
    });
    let end = prop_oneof![
        cause.clone().prop_map(|cause| Some(End::Refused(cause))),
        cause.prop_map(|cause| Some(End::Expired(cause))),
        image.prop_map(|image| Some(End::Succeeded(event::Succeeded {
            image: Some(image),
            note: String::new()
        }))),
        Just(None)
    ];
    prop_oneof![4 => end.prop_map(|end| Some(event::Outcome { end })), 1 => Just(None)]
}

fn report() -> impl Strategy<Value = wire::Report> {
    let who = (number(), id(), number(), number());
    (who, outcome(), prop::option::of(vm_state()), vec(any::<u8>(), 0..40), time(), time()).prop_map(
        |((report_seq, event_id, seq, generation), outcome, vm, event, begun_at_ms, finished_at_ms)| {
            wire::Report {
                report_seq,
                event_id,
                seq,
                generation,
                outcome,
                vm,
                event: event.into(),
                begun_at_ms,
                finished_at_ms,
            }
        },
    )
}

fn heartbeat() -> impl Strategy<Value = wire::Heartbeat> {
    let capacity = (any::<u32>(), number(), number(), number(), number(), ".{0,30}", vec(".{0,30}", 0..4))
        .prop_map(|(cpus, memory, available, disk, free, cpu_arch, bridges)| wire::Capacity {
            cpus,
            memory_bytes: memory,
            memory_available_bytes: available,
            disk_bytes: disk,
            disk_free_bytes: free,
            cpu_arch,
            bridges,
        });
    (number(), any::<u32>(), prop::option::of(capacity), vec(vm_state(), 0..4), vec(id(), 0..4)).prop_map(
        |(count, window, capacity, changed, running_event_ids)| wire::Heartbeat {
            count,
            window,
            capacity,
            changed,
            held: vec![wire::Held {
                vm_id: running_event_ids.first().cloned().unwrap_or_default(),
                generation: count,
            }],
            running_event_ids,
            observe_only: window % 2 == 1,
            ..wire::Heartbeat::default()
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let inventory = (number(), number(), any::<bool>(), vec(vm_state(), 0..4)).prop_map(
        |(start_count, inventory, complete, vms)| wire::InventoryChunk {
            start_count,
            inventory,
            complete,
            vms,
        },
    );
    let progress = (id(), ".{0,80}", number(), number()).prop_map(|(event_id, step, done, total)| {
        event::Progress { event_id, step, done_bytes: done, total_bytes: total, ..event::Progress::default() }
    });
    let hello = (any::<u32>(), id(), id(), number(), number(), id(), number()).prop_map(
        |(protocol, host_id, journal_id, start_count, last_seq, last_seq_event_id, last_report_seq)| {
            wire::Hello {
                protocol,
                host_id,
                journal_id,
                start_count,
                last_seq,
                last_seq_event_id,
                last_report_seq,
                ..wire::Hello::default()
            }
        },
    );
    let account = (prop::option::of(vm_state()), id(), number(), any::<bool>(), vec(any::<u8>(), 0..40))
        .prop_map(|(state, event_id, seq, complete, event)| wire::AccountChunk {
            vms: vec![wire::Holding { state, ..wire::Holding::default() }],
            entries: vec![wire::Entry { seq, event_id, event: event.into(), ..wire::Entry::default() }],
            complete,
            truncated: !complete,
            ..wire::AccountChunk::default()
        });
    prop_oneof![
        1 => account.prop_map(Message::Account),
        2 => number().prop_map(|seq| Message::Accepted(wire::Accepted { seq })),
        4 => report().prop_map(Message::Report),
        4 => heartbeat().prop_map(Message::Heartbeat),
        2 => inventory.prop_map(Message::Inventory),
        1 => progress.prop_map(Message::Progress),
        1 => any::<u64>().prop_map(|nonce| Message::Pong(wire::Pong { nonce })),
        1 => hello.prop_map(Message::Hello),
    ]
}

/// Says all of it, as a host that was welcomed or as one that begins so.
async fn play(coordinator: &Coordinator, begins_well: bool, messages: Vec<Message>) {
    let mut link = if begins_well {
        let mut link = Agent::new().dial(coordinator).await;
        link.next().await;
        link
    } else {
        Link::open(coordinator).await
    };
    for message in messages {
        link.send(message).await;
    }
    // What it says last is taken or refused by then: a ping is answered, or the session ends.
    link.hang_up().await;
}

#[test]
fn whatever_a_host_says_the_others_are_served() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let coordinator = runtime.block_on(Coordinator::start());
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(begins_well in prop::bool::weighted(0.8), messages in vec(message(), 1..12))| {
        runtime.block_on(play(&coordinator, begins_well, messages));
    });
    runtime.block_on(others_are_served(&coordinator));
}

async fn others_are_served(coordinator: &Coordinator) {
    coordinator.hosts().list_hosts(fleet::ListHostsRequest::default()).await.unwrap();
    coordinator.events().list_events(fleet::ListEventsRequest::default()).await.unwrap();
    coordinator.vms().list_vms(fleet::ListVmsRequest::default()).await.unwrap();
    coordinator.image("tiny").await;
    // One that said that it is ahead stops placement, until a person has looked; if none did, there is nothing to end.
    let looked = fleet::EndRecoveryRequest { reason: "nonsense".into() };
    let _ = coordinator.hosts().end_recovery(looked).await;
    let honest = Agent::new();
    let (link, _) = honest.connect(coordinator).await;
    let host_id = honest.host.to_string();
    let request = fleet::CreateVmRequest { host_id, ..crate::testing::create_request("honest") };
    let obeying = tokio::spawn(honest.obey(link));
    let created = coordinator.vms().create_vm(request).await.unwrap().into_inner();
    coordinator.wait_for_stage(&created.event_id, "succeeded").await;
    obeying.abort();
}
