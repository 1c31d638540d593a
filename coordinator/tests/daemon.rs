//! The daemon as systemd and people meet it: exit statuses, the ready file, signals, one a data folder.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The bound on every wait.
const BOUND: Duration = Duration::from_secs(30);

fn coordinator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewpoint-coordinator"));
    command.args(arguments).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
    command.env_remove("DEWPOINT_COORDINATOR_CONFIG");
    command
}

fn output(arguments: &[&str]) -> Output {
    coordinator(arguments).output().unwrap()
}

/// A running daemon; killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn start(folder: &Path) -> (Self, serde_json::Value) {
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

    fn said(&mut self) -> String {
        let _ = self.0.kill();
        let mut text = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

#[test]
fn bad_configuration_exits_78_and_names_file_key_and_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[images]\nlisten_on = \"127.0.0.1:1\"\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["run", "check-config"] {
        let bad = output(&[command, "--config", file]);
        let said = String::from_utf8_lossy(&bad.stderr);
        assert_eq!(bad.status.code(), Some(78), "{said}");
        assert!(said.contains(file) && said.contains("line 2") && said.contains("listen_on"), "{said}");
    }
    let open = output(&["check-config", "--listen", "0.0.0.0:7400"]);
    let said = String::from_utf8_lossy(&open.stderr);
    assert!(open.status.code() == Some(78) && said.contains("--insecure"), "{said}");
    assert!(output(&["check-config", "--listen", "0.0.0.0:7400", "--insecure"]).status.success());
    assert_eq!(output(&["run", "--nonsense"]).status.code(), Some(2));
}

#[test]
fn check_config_shows_what_it_comes_to() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/coordinator.toml");
    let shown = output(&["check-config", "--config", shipped, "--data-dir", "/srv/dewpoint"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && text.contains("data_dir = \"/srv/dewpoint\""), "{text}");
}

#[test]
fn it_says_where_it_listens_refuses_a_second_and_drains_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, ready) = Daemon::start(folder.path());
    for key in ["grpc", "images"] {
        let address: std::net::SocketAddr = ready[key].as_str().unwrap().parse().unwrap();
        assert!(address.port() != 0 && address.ip().is_loopback());
        std::net::TcpStream::connect_timeout(&address, BOUND).unwrap();
    }
    let data = folder.path().join("data");
    let second =
        coordinator(&["run", "--listen", "127.0.0.1:0", "--images-listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .output()
            .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && said.contains(&format!("pid {}", first.0.id())), "{said}");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(first.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(first.0.wait().unwrap().success());
    // Killed, it leaves a lock that holds nobody off.
    let folder_again = folder.path().join("again");
    std::fs::create_dir(&folder_again).unwrap();
    std::fs::rename(&data, folder_again.join("data")).unwrap();
    let (killed, _) = Daemon::start(&folder_again);
    drop(killed);
    let _third = Daemon::start(&folder_again);
}
