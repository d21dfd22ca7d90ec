//! The command-line tools of a node (`spec/cli.md`).
//!
//! - [`volumes`]: `vlmc`, volumes
//! - [`node_tool`]: `archipelago`, the node as a whole
//! - [`segment_tool`]: `xseg`, the segment
//! - [`bench`]: `archip-bench`, how fast it is
//! - [`finalize`]: `finalize_upgrade_0.4`, the end of an upgrade from 0.3
//! - `arguments`: what their command lines share
//! - `settings`: the node that a tool works on; `own_node`: one inside the tool, while that does not
//!   run; `catalogue`: the maps in its storage
//! - `mapped`: volumes that are presented as devices
//! - `failure`, `term`, `format`: what went wrong, and what people and programs see

mod arguments;
pub mod bench;
mod catalogue;
mod failure;
pub mod finalize;
mod format;
mod mapped;
pub mod node_tool;
mod own_node;
pub mod segment_tool;
mod settings;
mod term;
pub mod volumes;
