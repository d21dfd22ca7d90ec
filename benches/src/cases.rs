//! The cases, by suite. A suite makes what its cases share (nodes, servers), and the cases hold
//! on to it.

pub mod ganeti;
pub mod nbd;
pub mod pithos;
pub mod python;
pub mod rados;
pub mod rest;
pub mod snapshots;
pub mod volume;
pub mod xseg;

use crate::case::{Case, Trouble};
use std::path::PathBuf;

/// What the cases may use.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Everything in less than three minutes.
    pub quick: bool,
    /// A directory on a disk; the cases make their own below it.
    pub disk: PathBuf,
    /// A directory in memory; likewise.
    pub memory: PathBuf,
    /// Of offsets.
    pub seed: u64,
}

/// A suite: its name, and what makes its cases.
pub type Suite = (&'static str, fn(&Setting) -> Result<Vec<Case>, Trouble>);

/// All that need nothing but this machine, in the order of the report.
pub const SUITES: &[Suite] = &[
    ("xseg", xseg::cases),
    ("volume", volume::cases),
    ("nbd", nbd::cases),
    ("snapshots", snapshots::cases),
    ("ganeti", ganeti::cases),
    ("pithos", pithos::cases),
    ("python", python::cases),
    ("rest", rest::cases),
];

/// Those that need a Ceph cluster, and programs that were built for it.
pub const ON_RADOS: &[Suite] = &[("rados", rados::cases)];
