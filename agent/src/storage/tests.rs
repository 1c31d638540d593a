//! The storage on temporary folders, with the real `qemu-img`.

mod create;
mod support;
