//! Every rule against a world that it should find something in, and all of them against one that is sound; then the repairs
//! on real files with a real journal.

mod rig;
mod sound;
mod table;
