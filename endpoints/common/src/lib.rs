//! What every endpoint process shares: the life of a mapped volume.
//!
//! - [`options`]: the command line, and what it and the configuration come to;
//! - [`daemon`]: from a command to a process of its own;
//! - [`memory`]: staying alive when memory is short;
//! - [`registry`]: `RUN_DIR/mapped/ID/`, where the tools find it;
//! - [`control`]: freeze, thaw, resize, status, unmap, over a socket;
//! - [`mapped`]: one mapped volume, as the tools see it;
//! - [`steering`]: the tools' side: which volumes are mapped, and orders to them;
//! - [`keeper`]: the process that outlives a killed one, and starts its successor;
//! - [`signals`]: what signals mean;
//! - [`backend`]: the volume for an event loop, which waits out the absence of its node;
//! - [`error`]: what can go wrong.

pub mod backend;
pub mod control;
pub mod daemon;
pub mod error;
pub mod keeper;
pub mod mapped;
pub mod memory;
pub mod options;
pub mod registry;
pub mod signals;
pub mod steering;

pub use backend::{
    Backend, Buffer, Completion, Handle, Op, Order, Outcome, State, Stretch, Volume,
};
pub use control::Device;
pub use error::{Error, ErrorKind};
pub use keeper::{Keeper, Past};
pub use mapped::Mapped;
pub use options::{Options, Part, Setting};
pub use registry::{Info, Place};
