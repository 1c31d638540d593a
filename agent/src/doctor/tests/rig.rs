//! A host with real files and a real journal, and libvirt and nftables in memory: what is found there is repaired, and not
//! found again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;

use super::sound::{mark, spec};
use crate::clock::SystemClock;
use crate::doctor::compare;
use crate::doctor::look::Eyes;
use crate::doctor::orphans::{adopt, orphans, remove};
use crate::doctor::repair::{Hands, Key, Receipt, mend};
use crate::doctor::world::{Configured, Daemon, Scope};
use crate::hypervisor::fake::FakeHypervisor;
use crate::hypervisor::fake::world::World as Fake;
use crate::hypervisor::{Call, DomainNic, DomainSpec, Hypervisor, Wanted};
use crate::journal::fixture;
use crate::journal::orphan::Adopted;
use crate::journal::{Journal, VmRow};
use crate::network::fake::FakeShield;
use crate::network::{Shield, rules_of, tap_name};
use crate::storage::{Files, JobProgress, NewDisk, Settings, Storage, describe_image};

pub(super) struct Rig {
    dir: tempfile::TempDir,
    pub(super) fake: Fake,
    pub(super) journal: Journal,
    pub(super) eyes: Eyes,
    pub(super) hands: Hands,
    pub(super) vm: VmId,
    pub(super) disk: EventId,
}

impl Rig {
    /// One VM, running, on which all sides agree.
    pub(super) async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dewpoint-doctor-").tempdir().unwrap();
        let data = dir.path().join("data");
        let host = HostId::fresh();
        let settings = Settings { reserve_bytes: 0, ..Settings::new(data.clone(), host) };
        let files = Files::open(settings, Arc::new(SystemClock)).unwrap();
        let fake = Fake::default();
        let hypervisor: Arc<dyn Hypervisor> = Arc::new(FakeHypervisor::new(fake.clone()));
        let shield: Arc<dyn Shield> = Arc::new(FakeShield::new(fake.clone()));
        let links = dir.path().join("net");
        fs::create_dir_all(links.join("br0/bridge")).unwrap();
        let hands = Hands {
            hypervisor: hypervisor.clone(),
            files: files.clone(),
            shield: shield.clone(),
            links: links.clone(),
        };
        let eyes = Eyes {
            host: Some(host),
            daemon: Daemon::Up,
            journal: data.join("agent.db"),
            hypervisor,
            files,
            shield,
            links,
            coordinator: None,
            configured: Configured {
                bridge: "br0".parse().unwrap(),
                table: "dewpoint".into(),
                recycle_budget: u64::MAX,
            },
        };
        let journal = Journal::open(&data.join("agent.db"), fixture::settings()).unwrap();
        let rig = Self { dir, fake, journal, eyes, hands, vm: VmId::fresh(), disk: EventId::fresh() };
        rig.build().await;
        rig
    }

    async fn build(&self) {
        let (vm, disk) = (self.vm, self.disk);
        let raw = self.dir.path().join("image.raw");
        fs::File::create(&raw).unwrap().set_len(4 * MIB).unwrap();
        let mut image = describe_image(&raw).unwrap();
        image.local_path = Some(raw.to_str().unwrap().to_owned());
        let files = &self.hands.files;
        files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
        let new = NewDisk {
            vm,
            event: disk,
            image: image.digest,
            mode: DiskMode::Overlay,
            size_bytes: 8 * MIB,
            made_of: None,
        };
        files.make_disk(&new, &JobProgress::default()).await.unwrap();
        files.make_seed(vm, disk, &spec()).await.unwrap();
        self.hands.shield.set(vm, &rules_of(vm, &spec())).await.unwrap();
        self.define(vm, disk).await;
        self.hands.hypervisor.apply(Call::Start(vm)).await.unwrap();
        let link = self.hands.links.join(tap_name(vm, 0).as_str());
        fs::create_dir_all(&link).unwrap();
        std::os::unix::fs::symlink("../br0", link.join("master")).unwrap();
        let adopted = Adopted { mark: mark(vm, disk), spec: spec() };
        assert!(self.journal.take_in(adopted.clone()).await.unwrap());
        assert!(!self.journal.take_in(adopted).await.unwrap(), "once");
    }

    async fn define(&self, vm: VmId, disk: EventId) {
        let files = &self.hands.files;
        let paths = files.disk_paths(vm, disk).await.unwrap();
        let domain = DomainSpec {
            name: "web".to_owned(),
            vcpus: 1,
            memory_bytes: 128 * MIB,
            disk: paths.disk,
            backing: paths.backing,
            seed: files.seed_path(vm, disk),
            nics: vec![DomainNic {
                tap: tap_name(vm, 0),
                bridge: "br0".parse().unwrap(),
                mac: spec().nics[0].mac,
            }],
            console_log: files.console_path(vm),
            mark: mark(vm, disk),
        };
        self.hands.hypervisor.apply(Call::Define(Box::new(domain))).await.unwrap();
    }

    pub(super) async fn codes(&self) -> Vec<&'static str> {
        compare(&self.eyes.look(Scope::Host).await).iter().map(|found| found.rule.code).collect()
    }

    /// Finds just this, repairs it, and finds it no more.
    async fn mended(&self, code: &str) -> Receipt {
        let found = compare(&self.eyes.look(Scope::Host).await);
        // What was moved aside before is told for as long as it is there.
        let found: Vec<_> = found.into_iter().filter(|found| found.rule.code != "quarantined").collect();
        assert_eq!(found.iter().map(|found| found.rule.code).collect::<Vec<_>>(), [code], "{found:?}");
        let key = Key::of(&found[0]);
        let receipt = mend(&key, &self.eyes, &self.hands).await.unwrap();
        let receipt = receipt.unwrap_or_else(|| panic!("{code} was not repaired"));
        let left: Vec<_> = self.codes().await.into_iter().filter(|left| *left != "quarantined").collect();
        assert!(left.is_empty(), "{code}: {left:?}");
        assert_eq!(mend(&key, &self.eyes, &self.hands).await.unwrap(), None, "{code}: once is enough");
        let log = fs::read_to_string(self.data("mended.log")).unwrap();
        assert!(log.contains(code) && log.contains(&receipt.at.0.to_string()), "{log}");
        receipt
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    fn in_folder(&self, name: &str) -> PathBuf {
        self.data("vms").join(self.vm.to_string()).join(name)
    }

    /// A journal that knows nothing of this host, as after the old one was lost.
    fn without_a_journal(&self) -> (Journal, PathBuf) {
        let path = self.dir.path().join("new.db");
        (Journal::open(&path, fixture::settings()).unwrap(), path)
    }

    fn eyes_on(&self, journal: &std::path::Path) -> Eyes {
        Eyes { journal: journal.to_owned(), ..self.eyes.clone() }
    }

    async fn row(&self) -> VmRow {
        self.journal.vm(self.vm).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn on_a_real_host_where_all_is_well_nothing_is_found() {
    let rig = Rig::new().await;
    assert_eq!(rig.codes().await, [""; 0]);
}

#[tokio::test]
async fn who_may_open_files_is_set_right_again() {
    let rig = Rig::new().await;
    let disk = rig.in_folder(&format!("{}.qcow2", rig.disk));
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(rig.in_folder(""), fs::Permissions::from_mode(0o755)).unwrap();
    rig.mended("access").await;
    assert_eq!(fs::metadata(&disk).unwrap().permissions().mode() & 0o7777, 0o660);
}

#[tokio::test]
async fn a_seed_and_a_base_that_were_deleted_are_made_again() {
    let rig = Rig::new().await;
    let seed = rig.in_folder(&format!("{}.seed", rig.disk));
    let before = fs::read(&seed).unwrap();
    fs::remove_file(&seed).unwrap();
    rig.mended("seed-missing").await;
    assert_eq!(fs::read(&seed).unwrap(), before, "the same bytes: the guest sees no new instance");

    let base = fs::read_dir(rig.in_folder("")).unwrap().flatten().map(|entry| entry.path());
    let base = base.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "base")).unwrap();
    fs::remove_file(&base).unwrap();
    rig.mended("base-missing").await;
    assert!(base.is_file());
}

#[tokio::test]
async fn what_is_left_over_is_moved_aside_and_never_deleted() {
    let rig = Rig::new().await;
    let event = EventId::fresh();
    fs::write(rig.in_folder(&format!("{event}.seed")), "seed").unwrap();
    fs::write(rig.in_folder(&format!("{event}.qcow2.part")), "half").unwrap();
    rig.hands.files.mend_access(rig.vm).await.unwrap();
    rig.mended("leftover-files").await;

    let disk = rig.in_folder(&format!("{event}.qcow2"));
    fs::write(&disk, fs::read(rig.in_folder(&format!("{}.qcow2", rig.disk))).unwrap()).unwrap();
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o600)).unwrap();
    rig.hands.files.mend_access(rig.vm).await.unwrap();
    let receipt = rig.mended("disk-unused").await;
    assert!(receipt.done.contains("quarantine"), "{receipt:?}");

    let kept = rig.hands.files.quarantined().await.unwrap();
    let names: Vec<&String> = kept.iter().flat_map(|kept| &kept.files).collect();
    for left in [format!("{event}.seed"), format!("{event}.qcow2.part"), format!("{event}.qcow2")] {
        assert!(names.contains(&&left), "{left} in {names:?}");
    }
    assert!(kept.iter().all(|kept| kept.vm == Some(rig.vm) && kept.since.is_some() && !kept.why.is_empty()));
}

#[tokio::test]
async fn a_folder_that_no_journal_explains_is_moved_aside_whole() {
    let rig = Rig::new().await;
    let orphan = VmId::fresh();
    rig.hands.files.make_seed(orphan, EventId::fresh(), &spec()).await.unwrap();
    rig.mended("folder-orphan").await;
    assert!(!rig.data("vms").join(orphan.to_string()).exists());
    let [kept] = &rig.hands.files.quarantined().await.unwrap()[..] else { panic!("one") };
    assert_eq!((kept.vm, kept.files.len()), (Some(orphan), 1));
    assert!(kept.path.join("vm.json").is_file(), "with its mark");
}

#[tokio::test]
async fn marks_autostart_and_rules_are_set_right_again() {
    let rig = Rig::new().await;
    let other = crate::hypervisor::Mark { wanted: Wanted::Off, ..mark(rig.vm, rig.disk) };
    rig.hands.hypervisor.apply(Call::Mark(other)).await.unwrap();
    rig.mended("wanted-differs").await;

    rig.fake.change(|state| state.domains.get_mut(&rig.vm).unwrap().autostart = true);
    rig.mended("autostart").await;

    rig.fake.change(|state| state.rules.clear());
    rig.mended("shield-missing").await;

    let gone = VmId::fresh();
    rig.hands.shield.set(gone, &rules_of(gone, &spec())).await.unwrap();
    rig.mended("shield-stale").await;
    assert_eq!(rig.row().await.wanted, Wanted::On, "the journal is not written to");
}

#[tokio::test]
async fn a_domain_that_somebody_undefined_is_defined_again_and_off() {
    let rig = Rig::new().await;
    let hypervisor = &rig.hands.hypervisor;
    let before = rig.fake.state().domains[&rig.vm].spec.clone().unwrap();
    hypervisor.apply(Call::PowerOff(rig.vm)).await.unwrap();
    hypervisor.apply(Call::Undefine(rig.vm)).await.unwrap();
    let row = rig.row().await;
    let found = compare(&rig.eyes.look(Scope::Host).await);
    let missing = found.iter().find(|found| found.rule.code == "domain-missing").unwrap();
    let receipt = mend(&Key::of(missing), &rig.eyes, &rig.hands).await.unwrap().unwrap();
    assert!(receipt.done.contains("define"), "{receipt:?}");
    let state = rig.fake.state();
    let domain = &state.domains[&rig.vm];
    assert_eq!(domain.spec.as_ref(), Some(&before), "as it was");
    assert_eq!(domain.live, None, "nothing is started by that");
    assert_eq!(rig.row().await, row, "the journal is not written to");
    assert!(!rig.codes().await.contains(&"domain-missing"));
    assert_eq!(mend(&Key::of(missing), &rig.eyes, &rig.hands).await.unwrap(), None, "once is enough");
}

#[tokio::test]
async fn an_orphan_is_adopted_as_its_mark_says_and_is_none_any_more() {
    let rig = Rig::new().await;
    let before = rig.row().await;
    let journal = rig.without_a_journal();
    let [orphan] = &orphans(&rig.eyes_on(&journal.1).look(Scope::Host).await)[..] else {
        panic!("one orphan")
    };
    assert_eq!((orphan.vm, orphan.disks, &orphan.hindrance), (rig.vm, 1, &None));
    let eyes = rig.eyes_on(&journal.1);
    let receipt = adopt(rig.vm, &eyes, &rig.hands, &journal.0).await.unwrap();
    assert!(receipt.done.contains("generation 3"), "{receipt:?}");

    let row = journal.0.vm(rig.vm).await.unwrap().unwrap();
    let bridged = before.spec.map(|mut spec| {
        spec.nics[0].bridge = Some("br0".parse().unwrap());
        spec
    });
    assert_eq!(row, VmRow { spec: bridged, ..before }, "all that the journal that was lost had of it");
    let left: Vec<_> = compare(&eyes.look(Scope::Host).await).iter().map(|found| found.rule.code).collect();
    assert_eq!(left, [""; 0]);
    let again = adopt(rig.vm, &eyes, &rig.hands, &journal.0).await.unwrap_err();
    assert_eq!(again.reason, Reason::VmExists);
}

#[tokio::test]
async fn a_vm_that_was_taken_over_without_its_spec_gets_it_when_a_person_says_so() {
    let rig = Rig::new().await;
    let before = rig.row().await;
    let journal = rig.without_a_journal();
    assert_eq!(journal.0.adopt(vec![VmRow { spec: None, ..before.clone() }]).await.unwrap(), 1);
    let eyes = rig.eyes_on(&journal.1);
    assert_eq!(orphans(&eyes.look(Scope::Host).await), [], "the journal has it");
    assert_eq!(remove(rig.vm, &eyes, &rig.hands).await.unwrap_err().reason, Reason::VmExists);
    adopt(rig.vm, &eyes, &rig.hands, &journal.0).await.unwrap();
    let row = journal.0.vm(rig.vm).await.unwrap().unwrap();
    assert_eq!(row.spec.as_ref().map(|spec| spec.memory_bytes), Some(128 * MIB));
    assert_eq!(VmRow { spec: None, ..row }, VmRow { spec: None, ..before }, "and nothing else changed");
    let again = adopt(rig.vm, &eyes, &rig.hands, &journal.0).await.unwrap_err();
    assert_eq!(again.reason, Reason::VmExists);
}

#[tokio::test]
async fn an_orphan_is_removed_with_its_disk_going_to_recycle() {
    let rig = Rig::new().await;
    let known = remove(rig.vm, &rig.eyes, &rig.hands).await.unwrap_err();
    assert_eq!(known.reason, Reason::VmExists, "a VM of the journal is no orphan");
    let stranger = remove(VmId::fresh(), &rig.eyes, &rig.hands).await.unwrap_err();
    assert_eq!(stranger.reason, Reason::VmNotFound);

    let journal = rig.without_a_journal();
    let eyes = rig.eyes_on(&journal.1);
    let receipt = remove(rig.vm, &eyes, &rig.hands).await.unwrap();
    assert!(receipt.done.contains("undefined") && receipt.done.contains("recycle"), "{receipt:?}");
    assert!(rig.fake.state().domains.is_empty() && rig.fake.state().rules.is_empty());
    let [kept] = &rig.hands.files.recycled_disks().await.unwrap()[..] else { panic!("one") };
    assert_eq!((kept.disk, kept.vm, kept.by), (rig.disk, rig.vm, None));
    let spec = kept.spec.as_ref().unwrap();
    assert_eq!((spec.name.as_str(), spec.memory_bytes), ("web", 128 * MIB), "enough to build it again");
    assert_eq!(orphans(&eyes.look(Scope::Host).await), []);
}

#[tokio::test]
async fn what_waits_in_the_quarantine_goes_to_recycle_when_a_person_says_so() {
    let rig = Rig::new().await;
    let journal = rig.without_a_journal();
    // Its domain is gone as well: only the folder is left.
    rig.hands.hypervisor.apply(Call::PowerOff(rig.vm)).await.unwrap();
    rig.hands.hypervisor.apply(Call::Undefine(rig.vm)).await.unwrap();
    let eyes = rig.eyes_on(&journal.1);
    let found = compare(&eyes.look(Scope::Host).await);
    let folder = found.iter().find(|found| found.rule.code == "folder-orphan").unwrap();
    mend(&Key::of(folder), &eyes, &rig.hands).await.unwrap().unwrap();
    let [kept] = &rig.hands.files.quarantined().await.unwrap()[..] else { panic!("one") };
    let wrong = rig.hands.files.empty_quarantined("../vms").await.unwrap_err();
    assert!(wrong.text.contains("not in the quarantine"), "{wrong:?}");

    rig.hands.files.empty_quarantined(&kept.name).await.unwrap();
    assert!(rig.hands.files.quarantined().await.unwrap().is_empty());
    let [recycled] = &rig.hands.files.recycled_disks().await.unwrap()[..] else { panic!("one") };
    assert_eq!((recycled.disk, recycled.vm), (rig.disk, rig.vm));
    let to = rig.dir.path().join("back.qcow2");
    rig.hands.files.restore_recycled(rig.disk, &to, &JobProgress::default()).await.unwrap();
    assert!(recycled.spec.as_ref().is_some_and(|spec| spec.name.as_str() == "web"), "from its seed");
}
