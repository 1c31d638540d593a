//! What systemd is told by the real daemons: ready when they are, fed while they live, and how they are.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::coordinator::{GRPC, IMAGES};
use dewpoint_tests::lab::Lab;
use dewpoint_tests::process::{Daemon, binary};
use dewpoint_tests::wait::{BOOT, until};

/// Stands where systemd listens.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
    told: Vec<String>,
}

impl Systemd {
    fn listen(lab: &Lab) -> Self {
        let path = lab.dir().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path, told: Vec::new() }
    }

    /// Allows a second between two beats.
    fn start(&self, name: &'static str, args: &[&Path], log: &Path) -> Daemon {
        let mut all: Vec<OsString> = vec!["WATCHDOG_USEC=1000000".into()];
        let mut socket = OsString::from("NOTIFY_SOCKET=");
        socket.push(&self.path);
        all.extend([socket, binary(name).into()]);
        all.extend(args.iter().map(OsString::from));
        Daemon::run(name, Path::new("env"), all, log)
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.told.extend(said.lines().map(str::to_owned));
        }
    }

    fn count(&self, line: &str) -> usize {
        self.told.iter().filter(|told| *told == line).count()
    }

    async fn until_fed(&mut self, daemon: &mut Daemon, times: usize) {
        until("the watchdog is fed", BOOT, async || {
            daemon.must_run();
            self.hear();
            let fed = self.count("READY=1") == 1 && self.count("WATCHDOG=1") >= times;
            if fed { Ok(()) } else { Err(format!("{:?}", self.told)) }
        })
        .await;
    }
}

#[tokio::test]
async fn the_agent_is_ready_once_and_fed_while_it_lives() {
    let lab = Lab::new();
    let agent = Agent::new(&lab, Link::Alone);
    let mut systemd = Systemd::listen(&lab);
    let config = agent.config();
    let args = [Path::new("run"), Path::new("--config"), &config];
    let mut daemon = systemd.start("dewpoint-agent", &args, &agent.log());
    systemd.until_fed(&mut daemon, 4).await;
    let status = systemd.told.iter().find(|line| line.starts_with("STATUS=")).unwrap();
    assert_eq!(status, "STATUS=works alone; 0 VMs have unfinished events");

    assert!(daemon.terminate().await.success());
    systemd.hear();
    assert_eq!(systemd.count("STOPPING=1"), 1);
}

#[tokio::test]
async fn the_coordinator_is_ready_once_and_fed_while_it_lives() {
    let lab = Lab::new();
    let mut systemd = Systemd::listen(&lab);
    let data = lab.dir().join("coordinator-data");
    let listen = [GRPC, IMAGES].map(|port| lab.listen(port).to_string());
    let args = [
        "run".as_ref(),
        "--data-dir".as_ref(),
        data.as_path(),
        "--listen".as_ref(),
        Path::new(&listen[0]),
        "--images-listen".as_ref(),
        Path::new(&listen[1]),
        "--insecure".as_ref(),
    ];
    let mut daemon = systemd.start("dewpoint-coordinator", &args, &lab.dir().join("coordinator.log"));
    systemd.until_fed(&mut daemon, 4).await;
    assert!(systemd.told.contains(&"STATUS=serving; 0 hosts connected".to_owned()), "{:?}", systemd.told);
    assert!(daemon.terminate().await.success());
}
