//! Asking a person before something is done that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use dewpoint_proto::cause::{Cause, Reason};

/// Whether the person has agreed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assent {
    /// Each thing is asked.
    Ask,
    /// `--yes`.
    Given,
}

impl Assent {
    /// From the flag.
    #[must_use]
    pub fn of(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Ask }
    }

    /// Asks on the terminal, unless agreed beforehand. Anything but `y` or `yes` is a no.
    ///
    /// # Errors
    /// `INVALID` when there is no terminal to ask on.
    pub fn to(self, question: &str) -> Result<Answer, Cause> {
        if self == Self::Given {
            return Ok(Answer::Yes);
        }
        if !std::io::stdin().is_terminal() {
            return Err(Cause::new(Reason::Invalid, "there is no terminal to ask on, and nothing was done")
                .advise("look at what it would do, then say so with --yes"));
        }
        // On stderr, so that what is printed stays a document.
        let mut stderr = std::io::stderr().lock();
        let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let mut line = String::new();
        let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut line));
        match read {
            Ok(_) if matches!(line.trim(), "y" | "Y" | "yes") => Ok(Answer::Yes),
            // The end of the input, too, is no agreement.
            _ => Ok(Answer::No),
        }
    }
}

/// What the person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Do it.
    Yes,
    /// Leave it.
    No,
}
