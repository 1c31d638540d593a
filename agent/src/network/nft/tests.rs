//! Real frames over a real bridge, in a network namespace of the test's own that ends with it.

mod frame;
mod rules;
mod traffic;
mod wire;
