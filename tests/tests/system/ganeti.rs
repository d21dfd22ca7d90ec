//! Archipelago as Ganeti uses it (`spec/ganeti.md`): the scripts and hooks themselves, called as
//! Ganeti calls them, on real nodes.
//!
//! - [`driver`]: Ganeti's side: a provider directory, a clean environment, logs, what it believes;
//! - [`scripts`]: every script, and what it leaves; how fast `attach` is;
//! - [`names`]: which volume a disk is;
//! - [`origins`]: volumes from a Pithos map, from a snapshot, and with their data kept;
//! - [`refusals`]: what is refused, in which words, and that nothing was changed;
//! - [`hooks`]: the two hooks, and whether this host is meant;
//! - [`migration`]: a running guest moves between two nodes; [`guest`]: the guest, and QEMU.

mod driver;
mod guest;
mod hooks;
mod migration;
mod names;
mod origins;
mod refusals;
mod scripts;
