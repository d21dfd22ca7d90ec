//! The first seeded test: several clients, snapshots and clones over a node whose drivers delay
//! and reorder, and whose processes die and are replaced while what they left still lands.
//!
//! A failure prints its seed; `ARCHIPELAGO_SEED=N cargo test -p system-tests simulation` repeats it,
//! and `ARCHIPELAGO_SEEDS=COUNT` tries more of them.

use client::Core;
use system_tests::sim::actor::{Actor, Shared, VOLUME_SIZE};
use system_tests::sim::world::PORTS;
use system_tests::sim::{Shape, World};
use xseg::protocol::{CloneRequest, Operation};
use xseg::{Name, Request};

const STEPS: u64 = 60_000;
const ACTORS: u64 = 3;

fn create(world: &mut World, volume: &str) {
    let mut core = Core::new(world.local.client_seat("creator").unwrap());
    let data = core.take_buffer(CloneRequest::LEN as u64).unwrap();
    data.fill(
        &CloneRequest {
            parent: Name::EMPTY,
            size: VOLUME_SIZE,
        }
        .encode(),
    );
    let request = Request::new(Operation::Clone, Name::try_from(volume).unwrap());
    core.submit(PORTS.mapperd, &request, Some(data), 0)
        .map_err(|e| e.0)
        .unwrap();
    let mut done = Vec::new();
    for _ in 0..100_000 {
        world.step();
        if core.poll(&mut done) {
            assert_eq!(done[0].answer.result(), Ok(0), "creation of {volume}");
            return;
        }
    }
    panic!("the creation of {volume} never ended");
}

/// One life of a node. Err: what went wrong.
fn run(seed: u64, shape: Shape) -> Result<(u64, u32), String> {
    let mut world = World::new(seed, shape);
    let mut shared = Shared::default();
    for volume in ["volume-a", "volume-b"] {
        create(&mut world, volume);
        shared.model.insert(volume.into(), Default::default());
        shared.volumes.push(volume.into());
    }
    let mut actors: Vec<Actor> = (1..=ACTORS).map(|n| Actor::new(&world, n)).collect();
    for _ in 0..STEPS {
        world.step();
        let at = world.below(ACTORS * 2) as usize;
        if let Some(actor) = actors.get_mut(at) {
            actor.act(&world, &mut shared);
            actor.collect(&mut shared)?;
        }
        if world.below(700) == 0 {
            world.kill_one();
        }
    }
    settle(&mut world, &mut actors, &mut shared)?;
    Ok((actors.iter().map(|a| a.ended).sum(), world.kills))
}

/// Nobody asks for more, everybody lives: every request must end.
fn settle(world: &mut World, actors: &mut [Actor], shared: &mut Shared) -> Result<(), String> {
    world.heal();
    for _ in 0..400_000 {
        world.step();
        for actor in actors.iter_mut() {
            actor.collect(shared)?;
        }
        if actors.iter().all(|a| a.under_way() == 0) {
            return Ok(());
        }
    }
    let left: Vec<_> = actors.iter().map(Actor::under_way).collect();
    Err(format!("requests never ended: {left:?}"))
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("ARCHIPELAGO_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        Some(seed) => vec![seed],
        None => {
            let more = std::env::var("ARCHIPELAGO_SEEDS")
                .ok()
                .and_then(|text| text.parse().ok());
            (1..=more.unwrap_or(count)).collect()
        }
    }
}

fn check(shape: Shape) {
    for seed in seeds(4) {
        match run(seed, shape) {
            Ok((ended, kills)) => {
                println!("seed {seed} {shape:?}: {ended} requests, {kills} kills");
                assert!(
                    ended > 300 && kills > 10,
                    "seed {seed}: too little happened"
                );
            }
            Err(why) => panic!("ARCHIPELAGO_SEED={seed} ({shape:?}): {why}"),
        }
    }
}

#[test]
fn nobody_sees_a_wrong_byte_in_one_process() {
    check(Shape::OneProcess);
}

#[test]
fn nobody_sees_a_wrong_byte_with_a_process_per_role() {
    check(Shape::ProcessPerRole);
}

#[test]
fn one_seed_is_one_history() {
    assert_eq!(run(7, Shape::ProcessPerRole), run(7, Shape::ProcessPerRole));
}
