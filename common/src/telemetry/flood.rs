//! A flood of one message is counted, not repeated.
//!
//! The first few of a message pass within a window; the rest are counted, and one line says how many they were once the
//! window is over. What makes two messages the same is the place in the code and what they are about: event, VM,
//! host, step, reason. Nothing is lost without its count: when the table is full of counts, messages pass.
//! Messages of DEBUG and below are never counted: who asks for those wants them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::fields::Fields;
use crate::message;

/// What a message may be about.
const ABOUT: [&str; 10] =
    ["event_id", "vm_id", "host_id", "step", "reason", "kind", "image", "path", "method", "what"];
/// Of the lines that say how many they were: never counted themselves.
const TARGET: &str = "dewpoint_common::telemetry::repeated";

/// How much of one message is let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Messages that pass within a window.
    pub(super) burst: u64,
    /// From the first that passed to the line that counts the rest.
    pub(super) window: Duration,
    /// Messages that are told apart.
    pub(super) most: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { burst: 5, window: Duration::from_secs(60), most: 4096 }
    }
}

/// The filter. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub(super) struct Flood(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    seen: Mutex<HashMap<Key, Seen>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    place: Identifier,
    about: [Option<String>; ABOUT.len()],
}

#[derive(Clone, Debug)]
struct Seen {
    since: Instant,
    passed: u64,
    more: u64,
    level: Level,
    newest: String,
}

impl Flood {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared { bounds, seen: Mutex::default() }))
    }

    /// Says how many there were of all whose window is over by `now`, and forgets them.
    pub(super) fn tell(&self, now: Instant) {
        for (key, seen) in self.0.over(now) {
            say(&key, &seen, self.0.bounds.window);
        }
    }

    /// Says how many there were of all: the process ends.
    pub(super) fn tell_all(&self) {
        self.tell(Instant::now() + self.0.bounds.window);
    }
}

impl Shared {
    fn passes(&self, key: Key, now: Instant, level: Level, text: impl FnOnce() -> String) -> bool {
        let mut all = self.seen();
        if !all.contains_key(&key) && all.len() >= self.bounds.most {
            // Of these nothing was held back, so nothing is lost.
            all.retain(|_, seen| seen.more > 0);
            if all.len() >= self.bounds.most {
                return true;
            }
        }
        let new = Seen { since: now, passed: 0, more: 0, level, newest: String::new() };
        let seen = all.entry(key).or_insert(new);
        if seen.more == 0 && now.duration_since(seen.since) >= self.bounds.window {
            (seen.since, seen.passed) = (now, 0);
        }
        if seen.passed < self.bounds.burst {
            seen.passed += 1;
            return true;
        }
        seen.more += 1;
        seen.newest = text();
        false
    }

    fn over(&self, now: Instant) -> Vec<(Key, Seen)> {
        let window = self.bounds.window;
        let over = |seen: &Seen| now.duration_since(seen.since) >= window;
        let ended: Vec<_> = self.seen().extract_if(|_, seen| over(seen)).collect();
        ended.into_iter().filter(|(_, seen)| seen.more > 0).collect()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Key, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Filter<S> for Flood
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    /// Never always: then only `event_enabled` would be asked, and its no is kept in mind wrongly by the registry.
    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn event_enabled(&self, event: &Event<'_>, cx: &Context<'_, S>) -> bool {
        let meta = event.metadata();
        if *meta.level() > Level::INFO || meta.target() == TARGET {
            return true;
        }
        let fields = Fields::of(event, cx.event_scope(event));
        let key = Key { place: meta.callsite(), about: ABOUT.map(|name| fields.text(name)) };
        let text = || fields.text("message").unwrap_or_default();
        self.0.passes(key, Instant::now(), *meta.level(), text)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        Fields::keep(attrs, id, &cx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        Fields::learn(id, values, &cx);
    }
}

fn say(key: &Key, seen: &Seen, window: Duration) {
    let about =
        |name: &str| ABOUT.iter().position(|known| *known == name).and_then(|at| key.about[at].as_deref());
    let span = humantime::format_duration(window);
    macro_rules! line {
        ($level:ident) => {
            tracing::event!(
                target: TARGET,
                Level::$level,
                message_id = message::REPEATED,
                event_id = about("event_id"),
                vm_id = about("vm_id"),
                host_id = about("host_id"),
                step = about("step"),
                reason = about("reason"),
                more = seen.more,
                "{} more like this in the last {span}: {}",
                seen.more,
                seen.newest,
            )
        };
    }
    match seen.level {
        Level::ERROR => line!(ERROR),
        Level::WARN => line!(WARN),
        _ => line!(INFO),
    }
}
