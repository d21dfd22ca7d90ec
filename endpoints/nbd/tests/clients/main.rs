//! The server over real sockets: a hand-written client that misbehaves, and the clients of the
//! world (libnbd's tools and Python binding, qemu, fio). A test whose tool is missing says so in
//! one line and passes.

mod lab;
mod raw;
mod tools;
