//! The daemon as systemd and people meet it: exit statuses, the ready file, signals, one a data folder.

use crate::process::{BOUND, Daemon, coordinator, output};

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
    assert!(second.status.code() == Some(1) && said.contains(&format!("pid {}", first.pid())), "{said}");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(first.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(first.wait().success());
    // Killed, it leaves a lock that holds nobody off.
    let folder_again = folder.path().join("again");
    std::fs::create_dir(&folder_again).unwrap();
    std::fs::rename(&data, folder_again.join("data")).unwrap();
    let (killed, _) = Daemon::start(&folder_again);
    drop(killed);
    let _third = Daemon::start(&folder_again);
}

#[test]
fn completions_and_man_pages_are_made_from_the_command_line() {
    let script = output(&["completion", "bash"]);
    assert!(script.status.success());
    assert!(String::from_utf8_lossy(&script.stdout).contains("check-config"));
    let folder = tempfile::tempdir().unwrap();
    assert!(output(&["man", &folder.path().to_string_lossy()]).status.success());
    let page = std::fs::read_to_string(folder.path().join("dewpoint-coordinator-run.1")).unwrap();
    assert!(page.contains("ready\\-file"), "{page}");
    let nowhere = output(&["man", "/nonexistent"]);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("name a folder that exists"), "{nowhere:?}");
}
