//! The daemon as a process.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// The bound on every wait.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn coordinator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewpoint-coordinator"));
    command.args(arguments).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
    command.env_remove("DEWPOINT_COORDINATOR_CONFIG");
    command
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    coordinator(arguments).output().unwrap()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    pub(crate) fn start(folder: &Path) -> (Self, serde_json::Value) {
        let ready = folder.join("ready.json");
        // systemd's side of the notification: it comes once everything listens.
        let socket = folder.join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(BOUND)).unwrap();
        let child = coordinator(&["run", "--listen", "127.0.0.1:0", "--images-listen", "127.0.0.1:0"])
            .args([Path::new("--data-dir"), &folder.join("data"), Path::new("--ready-file"), &ready])
            .env("NOTIFY_SOCKET", &socket)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut daemon = Self(child);
        let mut told = [0; 64];
        let told = match notified.recv(&mut told) {
            Ok(length) => String::from_utf8_lossy(&told[..length]).into_owned(),
            Err(error) => panic!("not ready ({error}): {}", daemon.said()),
        };
        assert!(told.contains("READY=1"), "{told}");
        std::fs::remove_file(socket).unwrap();
        (daemon, serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    fn said(&mut self) -> String {
        let _ = self.0.kill();
        let mut text = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}
