//! The Python modules against real peers: `python/tests`, run by Debian's Python with the library
//! that cargo built and the programs beside this test.
//!
//! Each test here is one file there. What a file leaves behind when it is killed (its programs
//! are daemons) is found by the folder in its environment, and ended.

mod rig;

use rig::{Python, Rig};

/// Runs a test file with Debian's Python alone.
fn plain(file: &str) {
    if let Some(python) = Python::debian() {
        Rig::new().run(&python, file);
    }
}

#[test]
fn the_behaviours_that_the_original_was_tested_for() {
    plain("test_protocol");
}

#[test]
fn the_modules_as_old_programs_use_them() {
    plain("test_api");
}

#[test]
fn the_native_api_plain_and_under_asyncio() {
    plain("test_volume");
}

#[test]
fn the_tools_as_modules() {
    plain("test_tools");
}

#[test]
fn ports_are_lent() {
    plain("test_pool");
}

#[test]
fn the_structures_are_those_of_the_library() {
    plain("test_layout");
}

#[test]
fn real_gevent_lets_others_run() {
    if let Some(python) = Python::with("gevent", &["gevent"]) {
        Rig::new().run(&python, "test_gevent");
    }
}

#[test]
fn pithos_workers_are_killed_and_replaced() {
    if let Some(python) = Python::with("gevent", &["gevent"]) {
        Rig::new().run(&python, "test_pithos");
    }
}

#[test]
fn the_types_are_complete() {
    if let Some(python) = Python::with("mypy", &["mypy"]) {
        python.module("mypy", &[]);
    }
}

#[test]
fn a_wheel_brings_modules_and_library() {
    if let Some(python) = Python::with("wheel", &["setuptools", "wheel"]) {
        Rig::new().run(&python, "test_wheel");
    }
}
