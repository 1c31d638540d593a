//! The storage on temporary folders, with the real `qemu-img`.

mod budget;
mod create;
mod disk_faults;
mod elsewhere;
mod fetch;
mod full_disk;
mod hostile;
mod http;
mod made_of;
mod power_loss;
mod recycle;
mod snapshot;
mod support;
mod upload;
