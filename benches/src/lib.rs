//! What the project measures of itself, and what it measures itself against.
//!
//! A [`case::Case`] is one question ("4k random write, depth 16, durable when answered"); its
//! [`case::Contender`]s are we and the others. The runner gives them short turns, interleaved and
//! in random order, so that whatever else the machine does falls on all alike. Nothing is asserted
//! here: a figure and its goal are printed side by side.
//!
//! | module | what it is |
//! |---|---|
//! | [`case`], [`runner`] | cases and contenders, and how turns are dealt |
//! | [`histogram`], [`spread`], [`random`] | latencies, five numbers of many rounds, seeded numbers |
//! | [`goal`] | a goal, and how the figures stand to it |
//! | [`facts`], [`report`] | the machine, and the table, JSON and plots |
//! | [`raw`] | what the kernel and the cache lines do without us |
//! | [`lab`], [`load`], [`fio`], [`servers`] | nodes, load through the client, NBD clients and servers |
//! | [`ceph`] | a cluster, `rados bench` and images of rbd |
//! | [`usage`] | processor time and private memory of processes |
//! | [`roles`] | what the other half of a ping-pong does, in a process of its own |
//! | [`cases`] | the cases themselves, each with its sketch |

pub mod case;
pub mod cases;
pub mod ceph;
pub mod facts;
pub mod fio;
pub mod goal;
pub mod histogram;
pub mod lab;
pub mod load;
pub mod random;
pub mod raw;
pub mod report;
pub mod roles;
pub mod runner;
pub mod servers;
pub mod spread;
pub mod usage;
