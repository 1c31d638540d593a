//! Progress of what takes longer than two seconds: a live line on a terminal, plain lines in a log, nothing for programs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::{Format, Output, Sink};
use crate::text::{cut, size, visible};

/// Nothing is said of what is done before.
const QUIET: Duration = Duration::from_secs(2);
/// Between two plain lines on the same step.
const PACE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(120);
/// What a live line may fill beside its spinner and clock.
const LINE: usize = 64;

/// Shows how far something is.
pub(crate) enum Meter {
    Live(ProgressBar),
    Lines(Lines),
    Silent,
}

/// Plain lines, at a readable pace.
pub(crate) struct Lines {
    what: String,
    total: u64,
    /// When the next line on the same step is due.
    due: Instant,
    /// The step that the last line spoke of.
    step: String,
}

impl Meter {
    /// Of a known number of bytes.
    pub(crate) fn bytes(output: &Output<'_>, what: &str, total: u64) -> Self {
        Self::new(output, what, total, "{msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} {eta}")
    }

    /// Of steps, however many.
    pub(crate) fn steps(output: &Output<'_>, what: &str) -> Self {
        Self::new(output, what, 0, "{spinner} {msg} {elapsed}")
    }

    fn new(output: &Output<'_>, what: &str, total: u64, template: &str) -> Self {
        match (output.format, output.err_is()) {
            (Format::Json, _) => Self::Silent,
            (Format::Text, Sink::Plain) => {
                let due = Instant::now() + QUIET;
                Self::Lines(Lines { what: what.to_owned(), total, due, step: String::new() })
            }
            (Format::Text, Sink::Terminal) => {
                let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
                // A template of ours is right or the default shows the same.
                bar.set_style(
                    ProgressStyle::with_template(template)
                        .unwrap_or_else(|_| ProgressStyle::default_bar())
                        .progress_chars("=> "),
                );
                bar.set_message(what.to_owned());
                bar.enable_steady_tick(TICK);
                Self::Live(bar)
            }
        }
    }

    /// This many bytes are done.
    pub(crate) fn done(&mut self, output: &mut Output<'_>, bytes: u64) -> Result<(), Failure> {
        match self {
            Self::Silent => Ok(()),
            Self::Live(bar) => {
                bar.set_position(bytes);
                Ok(())
            }
            Self::Lines(lines) if Instant::now() < lines.due => Ok(()),
            Self::Lines(lines) => {
                lines.due = Instant::now() + PACE;
                let percent = u128::from(bytes) * 100 / u128::from(lines.total.max(1));
                output.progress(&format!("{}: {percent}% of {}", lines.what, size(lines.total)))
            }
        }
    }

    /// It stands at `step`; `line` says so in full. Plain lines speak of every step once, of long ones again.
    pub(crate) fn at(&mut self, output: &mut Output<'_>, step: &str, line: &str) -> Result<(), Failure> {
        match self {
            Self::Silent => Ok(()),
            Self::Live(bar) => {
                bar.set_message(cut(&visible(line), LINE));
                Ok(())
            }
            Self::Lines(lines) if lines.step == step && Instant::now() < lines.due => Ok(()),
            Self::Lines(lines) => {
                lines.due = Instant::now() + PACE;
                step.clone_into(&mut lines.step);
                output.progress(line)
            }
        }
    }

    /// Something to know meanwhile, without disturbing the live line.
    pub(crate) fn notice(&self, output: &mut Output<'_>, notice: &str) -> Result<(), Failure> {
        match self {
            Self::Live(bar) => bar.suspend(|| output.notice(notice)),
            Self::Lines(_) | Self::Silent => output.notice(notice),
        }
    }
}

impl Drop for Meter {
    /// A live line never stays behind, whichever way its command ends.
    fn drop(&mut self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}
