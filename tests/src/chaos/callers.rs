//! The callers: each asks for what the plan says, one thing after the other, as a client that is cut off would: again,
//! under the same id, a few times; then it does not know.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::event::DiskMode;
use dewpoint_proto::wire::fleet::{
    CancelEventRequest, CreateVmRequest, EventRecord, RebootVmRequest, RemoveImageRequest, StopVmRequest,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::history::{Answer, History, What};
use super::plan::{Asks, Image, Timed};
use super::slots::Slots;
use crate::caller::{Ask, Caller, has_ended};
use crate::fleet::address4;
use crate::guest::Guest;
use crate::request;

/// How often a request without an answer is made.
const TRIES: u32 = 4;
/// Between two of them.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a snapshot is followed before its caller goes on.
const FOLLOW: Duration = Duration::from_secs(45);

/// What all callers share.
#[derive(Debug)]
pub struct Shared {
    /// The coordinator.
    pub caller: Caller,
    /// What they did.
    pub history: History,
    /// What there is.
    pub slots: Slots,
    /// What names begin with.
    pub prefix: String,
}

/// One caller.
struct One {
    number: u8,
    shared: Arc<Shared>,
    /// What it asked for, the newest last.
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Asked {
    slot: u8,
    vm: String,
    ask: Ask,
}

/// Asks for everything in its turn; late, when what was before took its time.
pub async fn run(number: u8, asks: Vec<Timed<Asks>>, shared: Arc<Shared>, begin: Instant) {
    let mut one = One { number, shared, asked: Vec::new() };
    for (nth, Timed { at, what }) in asks.into_iter().enumerate() {
        sleep_until(begin + at).await;
        one.act(nth, what).await;
    }
}

impl One {
    async fn act(&mut self, nth: usize, what: Asks) {
        let slots = &self.shared.slots;
        let (slot, ask) = match what {
            Asks::Create { slot, image, full_copy, left_off } => {
                let Some(image) = self.image(image) else { return };
                (slot, self.create(slot, image, full_copy, left_off).await)
            }
            Asks::Start { slot } => (slot, request::start(&slots.vm(slot)).into()),
            Asks::Stop { slot, force, timeout_seconds } => {
                let stop = request::stop(&slots.vm(slot), timeout_seconds);
                (slot, StopVmRequest { force, ..stop }.into())
            }
            Asks::Reboot { slot, hard, timeout_seconds } => {
                let reboot = request::soft_reboot(&slots.vm(slot));
                (slot, RebootVmRequest { hard, timeout_seconds, ..reboot }.into())
            }
            Asks::Snapshot { slot } => return self.snapshot(slot, nth).await,
            Asks::Restore { slot, image } => {
                let Some(image) = self.image(image) else { return };
                (slot, request::restore(&slots.vm(slot), &image).into())
            }
            Asks::Destroy { slot, now } => {
                let vm = slots.vm(slot);
                (slot, if now { request::destroy_now(&vm) } else { request::destroy(&vm) }.into())
            }
            Asks::Cancel { slot } => {
                let Some(event_id) = slots.last_event(slot) else { return };
                (slot, CancelEventRequest { options: request::fresh(), event_id }.into())
            }
            Asks::Again { back } => return self.again(back).await,
            Asks::Reuse { back } => return self.reuse(back).await,
        };
        self.ask(slot, ask).await;
    }

    fn image(&self, image: Image) -> Option<String> {
        match image {
            Image::Tiny => Some(request::IMAGE.to_owned()),
            Image::Snapshot(nth) => self.shared.slots.snapshot(nth),
        }
    }

    /// A create of the slot's VM, or of the next one when that one is gone for good.
    async fn create(&self, slot: u8, image: String, full_copy: bool, leave_off: bool) -> Ask {
        let Shared { caller, slots, prefix, .. } = &*self.shared;
        let vm = slots.vm(slot);
        if let Ok(Ok(seen)) = timeout(PAUSE, caller.vm(&vm)).await
            && seen.gone
        {
            slots.next_life(slot, &vm);
        }
        let (vm, restart) = slots.to_make(slot);
        let disk_mode = if full_copy { DiskMode::FullCopy } else { DiskMode::Overlay };
        CreateVmRequest {
            user_data: user_data(&vm).into(),
            vm_id: vm,
            image,
            leave_off,
            disk_mode: disk_mode.into(),
            restart: dewpoint_proto::wire::event::Restart::from(restart).into(),
            ..request::vm(&format!("{prefix}{slot}"))
        }
        .into()
    }

    /// A snapshot is followed to its end, for its image is of use to others.
    async fn snapshot(&mut self, slot: u8, nth: usize) {
        let name = format!("snap-{}-{nth}", self.number);
        let ask = request::snapshot(&self.shared.slots.vm(slot), &name);
        let Some(event) = self.ask(slot, ask.into()).await else { return };
        let Shared { caller, slots, .. } = &*self.shared;
        let ended = async {
            loop {
                match caller.event(&event.event_id).await {
                    Ok(event) if has_ended(&event) => return event.stage == "succeeded",
                    _ => sleep(Duration::from_millis(500)).await,
                }
            }
        };
        if timeout(FOLLOW, ended).await == Ok(true)
            && let Some(image) = slots.add_snapshot(name)
        {
            // One in use stays, and does no harm.
            let _ = caller.images().remove_image(RemoveImageRequest { image }).await;
        }
    }

    async fn again(&mut self, back: u8) {
        let Some(earlier) = self.back(back) else { return };
        let before = self.shared.history.lines();
        let id = earlier.ask.event_id();
        let taken = |answer: &What| matches!(answer, What::Answered { event, answer: Answer::Taken { .. } } if *event == id);
        let known = before.iter().any(|line| taken(&line.what));
        let answer = self.ask_as(earlier).await;
        if known && matches!(answer, Answer::Refused { .. }) {
            self.violated("2", format!("the same request under {id} was taken once, and now: {answer:?}"));
        }
    }

    /// The same id with another body must be refused, if the id is known at all.
    async fn reuse(&mut self, back: u8) {
        let Some(earlier) = self.back(back) else { return };
        let id = earlier.ask.event_id();
        let Ok(known) = self.shared.caller.event(&id).await else { return };
        let other = request::start(&known.vm_id);
        let options = earlier.ask.options();
        if matches!(earlier.ask, Ask::Start(_)) {
            return;
        }
        let other = dewpoint_proto::wire::fleet::VmRequest { options, ..other };
        if let Ok(taken) = self.shared.caller.ask(other).await {
            self.violated("2", format!("another request under {id} was taken: {}", taken.kind));
        }
    }

    fn back(&self, back: u8) -> Option<Asked> {
        self.asked.iter().rev().nth(back.into()).cloned()
    }

    fn violated(&self, promise: &str, detail: String) {
        self.shared.history.add(What::Violated { promise: promise.to_owned(), detail });
    }

    async fn ask(&mut self, slot: u8, ask: Ask) -> Option<EventRecord> {
        let asked = Asked { slot, vm: self.shared.slots.vm(slot), ask };
        self.asked.push(asked.clone());
        self.shared.slots.asked(slot, &asked.ask.event_id());
        self.tries(asked).await.ok()
    }

    async fn ask_as(&mut self, asked: Asked) -> Answer {
        self.tries(asked).await.map_or_else(|answer| answer, |event| Answer::Taken { stage: event.stage })
    }

    /// Asks until there is an answer, or it is given up.
    async fn tries(&self, Asked { slot, vm, ask }: Asked) -> Result<EventRecord, Answer> {
        let Shared { caller, history, .. } = &*self.shared;
        let event = ask.event_id();
        let (kind, detail) = (ask.name().to_owned(), format!("slot {slot}: {}", ask.detail()));
        history.add(What::Asked { caller: self.number, event: event.clone(), vm, kind, detail });
        let mut answered = Answer::Silence { text: String::new() };
        for _ in 0..TRIES {
            let said = caller.ask(ask.clone()).await;
            answered = match &said {
                Ok(record) => Answer::Taken { stage: record.stage.clone() },
                Err(cause) if cause.reason == Reason::Unreachable => {
                    Answer::Silence { text: cause.text.clone() }
                }
                Err(cause) => Answer::Refused { reason: cause.reason.to_string(), text: cause.text.clone() },
            };
            history.add(What::Answered { event: event.clone(), answer: answered.clone() });
            match said {
                Ok(record) => return Ok(record),
                Err(cause) if cause.reason != Reason::Unreachable => return Err(answered),
                Err(_) => sleep(PAUSE).await,
            }
        }
        Err(answered)
    }
}

/// What tells a VM's seed from all others.
#[must_use]
pub fn user_data(vm: &str) -> Vec<u8> {
    format!("#chaos {vm}\n").into_bytes()
}

/// Tells guests to write markers, a new one each time.
pub async fn mark(markers: Vec<Timed<u8>>, shared: Arc<Shared>, begin: Instant) {
    for (nth, Timed { at, what: slot }) in markers.into_iter().enumerate() {
        sleep_until(begin + at).await;
        let vm = shared.slots.vm(slot);
        let Some(guest) = guest(&shared, &vm).await else { continue };
        let from_ms = dewpoint_proto::time::Millis::now().0;
        let marker = format!("m{nth}-{vm}");
        let confirmed = guest.try_mark(&marker).await.is_ok();
        shared.history.add(What::Marked { vm, marker, from_ms, confirmed });
    }
}

/// The guest of a VM, if its address can be found out.
pub async fn guest(shared: &Shared, vm: &str) -> Option<Guest> {
    if let Some(address) = shared.slots.address(vm) {
        return Some(Guest::at(address));
    }
    let found = timeout(PAUSE, shared.caller.vm(vm)).await.ok()?.ok()?;
    if found.nics.iter().all(|nic| nic.addresses.is_empty()) {
        return None;
    }
    let address = address4(&found);
    shared.slots.has_address(vm, address);
    Some(Guest::at(address))
}
