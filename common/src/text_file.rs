//! Reads a file that a person wrote: UTF-8, bounded in length, and never waiting for somebody who writes into a pipe.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// No honest file is longer.
pub const MOST_BYTES: u64 = 1024 * 1024;

/// Why a file is no text that can be read.
#[derive(Debug)]
pub enum Unreadable {
    /// It cannot be opened or read.
    Failed(io::Error),
    /// Nothing of it can be read without somebody who writes.
    Waits,
    /// Longer than [`MOST_BYTES`].
    Long,
    /// At this byte it is not UTF-8.
    NoText(usize),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Waits => f.write_str("it is a pipe or a socket, and no file"),
            Self::Long => write!(f, "it is longer than {MOST_BYTES} bytes"),
            Self::NoText(at) => write!(f, "it is no UTF-8 text from byte {at} on"),
        }
    }
}

/// The whole text of a file.
///
/// # Errors
/// Why there is none.
pub fn read(path: &Path) -> Result<String, Unreadable> {
    let kind = fs::metadata(path).map_err(Unreadable::Failed)?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(Unreadable::Waits);
    }
    let file = File::open(path).map_err(Unreadable::Failed)?;
    let mut bytes = Vec::new();
    // What is no regular file tells no length.
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(Unreadable::Failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Unreadable::Long);
    }
    String::from_utf8(bytes).map_err(|error| Unreadable::NoText(error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_text_file_is_told_from_one_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("text"), "a: \u{e9}\n").unwrap();
        symlink(at("text"), at("link")).unwrap();
        for name in ["text", "link"] {
            assert_eq!(read(&at(name)).unwrap(), "a: \u{e9}\n");
        }
        fs::write(at("latin"), b"a: \xe9\n").unwrap();
        fs::write(at("long"), vec![b'#'; 2 * 1024 * 1024]).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let endless = Path::new("/dev/zero").to_owned();
        for (path, says) in [
            (at("latin"), "no UTF-8 text from byte 3 on"),
            (at("long"), "longer than 1048576 bytes"),
            (endless, "longer than 1048576 bytes"),
            (at("pipe"), "a pipe or a socket"),
            (at("nothing"), "No such file"),
            (at("loop"), "symbolic links"),
            (folder.path().to_owned(), "directory"),
        ] {
            let why = read(&path).unwrap_err().to_string();
            assert!(why.contains(says), "{}: {why}", path.display());
        }
    }
}
