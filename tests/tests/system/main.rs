//! The system tests, in one program.

#[macro_use]
extern crate rados_lab;

mod bad_input;
mod embedded;
mod ganeti;
mod golden;
mod kills;
mod lease;
mod migrating;
#[cfg(feature = "rados")]
mod rados;
mod rolling;
mod simulation;
mod trouble;
mod waiting;

use system_tests::storage::Storage;
