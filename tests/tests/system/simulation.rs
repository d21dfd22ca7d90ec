//! The first seeded test: several clients, snapshots and clones over a node whose drivers delay
//! and reorder, and whose processes die and are replaced while what they left still lands; and the
//! same while another node has some of the locks now and then.
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

/// One life of a node, whose requests, kills and requests given up are counted. Err: what went wrong.
fn run(seed: u64, shape: Shape, strangers: bool) -> Result<(u64, u32, u64), String> {
    let mut world = World::new(seed, shape);
    let mut shared = Shared {
        strangers,
        ..Shared::default()
    };
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
        if strangers && world.below(300) == 0 {
            let at = world.below(shared.volumes.len() as u64) as usize;
            world.stranger_acts(&shared.volumes[at]);
        }
    }
    settle(&mut world, &mut actors, &mut shared)?;
    let sum = |count: fn(&Actor) -> u64| actors.iter().map(count).sum();
    Ok((sum(|a| a.ended), world.kills, sum(|a| a.given_up)))
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

fn check(shape: Shape, strangers: bool) {
    for seed in seeds(4) {
        match run(seed, shape, strangers) {
            Ok((ended, kills, given_up)) => {
                println!(
                    "seed {seed} {shape:?}: {ended} requests, {given_up} given up, {kills} kills"
                );
                assert!(
                    ended > 300 && kills > 10 && given_up < ended / 4,
                    "seed {seed}: too little happened"
                );
            }
            Err(why) => panic!("ARCHIPELAGO_SEED={seed} ({shape:?}): {why}"),
        }
    }
}

#[test]
fn nobody_sees_a_wrong_byte_in_one_process() {
    check(Shape::OneProcess, false);
}

#[test]
fn nobody_sees_a_wrong_byte_with_a_process_per_role() {
    check(Shape::ProcessPerRole, false);
}

/// Volumes are closed, and another node takes their locks for a while: writes wait for it, or are
/// given up by a close.
#[test]
fn nobody_sees_a_wrong_byte_while_locks_come_and_go() {
    for shape in [Shape::OneProcess, Shape::ProcessPerRole] {
        check(shape, true);
    }
}

#[test]
fn one_seed_is_one_history() {
    let history = || run(7, Shape::ProcessPerRole, true);
    assert_eq!(history(), history());
}
