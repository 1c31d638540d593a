//! The storage on temporary folders, with the real `qemu-img`.

mod create;
mod power_loss;
mod support;
