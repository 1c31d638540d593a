//! Power loss, as the worst file system within POSIX would suffer it. For the tests of this workspace alone.
//!
//! A [`Recorder`] watches a data folder's changes, remembers what was synced of each file and folder, and can cut the
//! power before any change: from then on every change fails. [`Recorder::rebuild`] then makes, in another folder,
//! what would be found after the next boot. [`Recorder::go_on`] makes the cut the end of a process alone: the next one
//! goes on in the same folder, and what the first did not sync still is not.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, Witness};

/// What survives of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Nothing: neither content nor names.
    Nothing,
    /// Names do, in order, as with a journal of metadata; content does not: files are empty.
    Names,
    /// Names do, and the first half of each file's content.
    Half,
    /// Names do, and each file's length: where content was not synced, there are zeros.
    Zeros,
}

impl Survives {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Names, Self::Half, Self::Zeros];
}

/// Watches one data folder.
pub struct Recorder {
    root: PathBuf,
    state: Mutex<State>,
}

type Id = usize;

struct State {
    nodes: Vec<Node>,
    /// Changes made so far.
    made: usize,
    /// Power fails before the change of this number.
    cut: usize,
}

enum Node {
    File { synced: Vec<u8> },
    Folder { now: BTreeMap<OsString, Id>, synced: BTreeMap<OsString, Id> },
}

impl Node {
    fn new_file() -> Self {
        Self::File { synced: Vec::new() }
    }

    fn new_folder() -> Self {
        Self::Folder { now: BTreeMap::new(), synced: BTreeMap::new() }
    }
}

impl Recorder {
    /// Begins with what is in the folder, all of it taken as synced; power fails before change number `cut`.
    ///
    /// # Errors
    /// Reading the folder.
    pub fn watch(root: &Path, cut: usize) -> io::Result<Self> {
        let mut state = State { nodes: vec![], made: 0, cut };
        fs::create_dir_all(root)?;
        state.take_in(root, &mut HashMap::new())?;
        Ok(Self { root: root.to_owned(), state: Mutex::new(state) })
    }

    /// It was no power cut: a process was killed there, and all that it changed is seen by the next.
    pub fn go_on(&self) {
        self.state().cut = usize::MAX;
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let state = self.state();
        state.made >= state.cut
    }

    /// Changes made so far.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.state().made
    }

    /// Makes, in a folder that is not there yet, what is found after the power came back.
    ///
    /// # Errors
    /// Writing it.
    pub fn rebuild(&self, survives: Survives, into: &Path) -> io::Result<()> {
        let state = self.state();
        let mut names = HashMap::new();
        state.names(0, &self.root, &mut names);
        state.write(0, survives, into, &names, &mut HashMap::new())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Recorder {
    fn before(&self, _: &Change) -> io::Result<()> {
        if self.is_cut() { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn after(&self, change: &Change) {
        let mut state = self.state();
        state.made += 1;
        // A change outside the model is a fault of the test, and must be seen.
        #[expect(clippy::expect_used, reason = "test support: a model that lost track must fail the test")]
        state.follow(&self.root, change).expect("the recorder knows every path that is changed");
    }
}

impl State {
    fn take_in(&mut self, path: &Path, known: &mut HashMap<(u64, u64), Id>) -> io::Result<Id> {
        let found = fs::symlink_metadata(path)?;
        if let Some(id) = known.get(&(found.dev(), found.ino())) {
            return Ok(*id);
        }
        let id = self.add(if found.is_dir() { Node::new_folder() } else { Node::new_file() });
        known.insert((found.dev(), found.ino()), id);
        if found.is_dir() {
            let mut entries = BTreeMap::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                entries.insert(entry.file_name(), self.take_in(&entry.path(), known)?);
            }
            self.nodes[id] = Node::Folder { now: entries.clone(), synced: entries };
        } else {
            self.nodes[id] = Node::File { synced: fs::read(path)? };
        }
        Ok(id)
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn follow(&mut self, root: &Path, change: &Change) -> Result<(), String> {
        match change {
            Change::MakeDir(path) => {
                let id = self.add(Node::new_folder());
                self.name(root, path, Some(id))
            }
            Change::Create(path) => {
                let id = self.add(Node::new_file());
                self.name(root, path, Some(id))
            }
            Change::SyncFile(path) => self.sync_file(root, path),
            Change::SyncDir(path) => self.sync_dir(root, path),
            Change::Link(from, to) => {
                let id = self.find(root, from)?;
                self.name(root, to, Some(id))
            }
            Change::Rename(from, to) => {
                let id = self.find(root, from)?;
                self.name(root, from, None)?;
                self.name(root, to, Some(id))
            }
            Change::Unlink(path) | Change::RemoveDir(path) => self.name(root, path, None),
        }
    }

    fn sync_file(&mut self, root: &Path, path: &Path) -> Result<(), String> {
        let id = self.find(root, path)?;
        let content = fs::read(path).map_err(|error| error.to_string())?;
        match &mut self.nodes[id] {
            Node::File { synced } => *synced = content,
            Node::Folder { .. } => return Err(format!("{} is a folder", path.display())),
        }
        Ok(())
    }

    fn sync_dir(&mut self, root: &Path, path: &Path) -> Result<(), String> {
        let id = self.find(root, path)?;
        match &mut self.nodes[id] {
            Node::Folder { now, synced } => synced.clone_from(now),
            Node::File { .. } => return Err(format!("{} is a file", path.display())),
        }
        Ok(())
    }

    /// Gives a name in a folder to a node, or takes it away.
    fn name(&mut self, root: &Path, path: &Path, to: Option<Id>) -> Result<(), String> {
        let (folder, name) = path.parent().zip(path.file_name()).ok_or("a path without a name")?;
        let folder = self.find(root, folder)?;
        match (&mut self.nodes[folder], to) {
            (Node::Folder { now, .. }, Some(id)) => drop(now.insert(name.to_owned(), id)),
            (Node::Folder { now, .. }, None) => drop(now.remove(name)),
            (Node::File { .. }, _) => return Err(format!("{} is in a file", path.display())),
        }
        Ok(())
    }

    fn find(&self, root: &Path, path: &Path) -> Result<Id, String> {
        let relative = path.strip_prefix(root).map_err(|_| format!("{} is elsewhere", path.display()))?;
        relative.iter().try_fold(0, |id, name| match &self.nodes[id] {
            Node::Folder { now, .. } => {
                now.get(name).copied().ok_or(format!("{} is not known", path.display()))
            }
            Node::File { .. } => Err(format!("{} is in a file", path.display())),
        })
    }

    /// Where each node is now, for its unsynced content and its mode.
    fn names(&self, id: Id, path: &Path, names: &mut HashMap<Id, PathBuf>) {
        names.insert(id, path.to_owned());
        if let Node::Folder { now, .. } = &self.nodes[id] {
            for (name, child) in now {
                self.names(*child, &path.join(name), names);
            }
        }
    }

    fn write(
        &self,
        id: Id,
        survives: Survives,
        path: &Path,
        names: &HashMap<Id, PathBuf>,
        written: &mut HashMap<Id, PathBuf>,
    ) -> io::Result<()> {
        if let Some(first) = written.get(&id) {
            return fs::hard_link(first, path);
        }
        written.insert(id, path.to_owned());
        match &self.nodes[id] {
            Node::File { synced } => fs::write(path, self.content(id, synced, survives, names)?)?,
            Node::Folder { now, synced } => {
                fs::create_dir(path)?;
                let entries = if survives == Survives::Nothing { synced } else { now };
                for (name, child) in entries {
                    self.write(*child, survives, &path.join(name), names, written)?;
                }
            }
        }
        let mode = names.get(&id).and_then(|path| fs::symlink_metadata(path).ok()).map(|found| found.mode());
        mode.map_or(Ok(()), |mode| fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)))
    }

    fn content(
        &self,
        id: Id,
        synced: &[u8],
        survives: Survives,
        names: &HashMap<Id, PathBuf>,
    ) -> io::Result<Vec<u8>> {
        let lasting = matches!(survives, Survives::Half | Survives::Zeros);
        let Some(path) = names.get(&id).filter(|_| lasting) else {
            return Ok(synced.to_vec());
        };
        let mut now = fs::read(path)?;
        if !now.starts_with(synced) {
            return Ok(synced.to_vec());
        }
        // What was synced is there; of what came after it, half, or as many zeros.
        if survives == Survives::Half {
            now.truncate(synced.len().max(now.len() / 2));
        } else {
            now[synced.len()..].fill(0);
        }
        Ok(now)
    }
}
