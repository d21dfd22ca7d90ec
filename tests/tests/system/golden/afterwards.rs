//! What the embedded node's main job leaves when the node stops is a tree that the original could
//! serve.

use crate::embedded::main_job;
use std::collections::BTreeMap;
use system_tests::golden::archive::missing_tool;
use system_tests::golden::tree::{assert_servable_by_the_original, files, wrong_modes};
use system_tests::storage::Storage;

on_each! {
    files, direct, rados =>
        the_main_job_leaves_a_tree_that_the_original_could_serve,
}

fn the_main_job_leaves_a_tree_that_the_original_could_serve(storage: &Storage) {
    if let Some(tool) = missing_tool() {
        eprintln!("SKIPPED: the tree after the main job: {tool} is not installed");
        return;
    }
    let mut setup = storage.setup;
    // Of files there are two places for locks: try each once.
    setup.flat_locks = setup.direct;
    let node = storage.node_with(setup);
    main_job(node.client());
    node.stop();
    let tree = storage.tree();
    let found = assert_servable_by_the_original(&tree);
    let volumes = found["volumes"].as_array().unwrap().iter();
    let facts = volumes.map(|v| {
        let facts = (v["epoch"].as_u64().unwrap(), v["deleted"] == true);
        (v["name"].as_str().unwrap(), facts)
    });
    let expected = [
        ("snapshot-1", (0, false)),
        ("volume-1", (2, false)),
        ("volume-2", (1, true)),
        ("volume-3", (2, false)),
    ];
    assert_eq!(facts.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    if !storage.is_rados() {
        assert_eq!(wrong_modes(&tree), [""; 0]);
        let sectors = files(&tree).values().all(|file| file.len % 512 == 0);
        assert_eq!(
            sectors, setup.direct,
            "whole sectors with O_DIRECT, and only then"
        );
    }
}
