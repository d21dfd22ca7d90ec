//! Both at once, for many rounds: each takes whatever volume it gets, checks all of it, writes, and
//! closes it, while processes of both are killed.
//!
//! A mutex beside each volume is only ever tried: whoever has the volume's lock must find it free.
//! `ARCHIPELAGO_TURNS` sets how many rounds each does (30), `ARCHIPELAGO_SEED` repeats them.

use super::{BLOCK, OLD, OURS, SIZE, Site, content, look, name, volume};
use client::{Client, Hint};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use system_tests::golden::tree::{checked, hex, sha256};

const VOLUMES: [&str; 2] = ["volume-0", "volume-1"];
const PATIENCE: Duration = Duration::from_secs(120);

struct Game<'a> {
    site: &'a Site,
    /// What each volume holds.
    contents: [Mutex<Vec<u8>>; VOLUMES.len()],
    /// Snapshots, and the sha256 of what they hold.
    snapshots: Mutex<Vec<(String, String)>>,
    rounds: u64,
    /// Rounds of ours and of theirs.
    done: [AtomicU64; 2],
    refused: AtomicUsize,
    seed: u64,
}

/// A random write within a block.
fn draw(rng: &mut ChaCha8Rng) -> (u64, Vec<u8>) {
    let len = rng.random_range(1..=9000u64);
    let block = rng.random_range(0..=SIZE / BLOCK);
    let end = (SIZE - block * BLOCK).min(BLOCK);
    let offset = block * BLOCK + rng.random_range(0..=end - len);
    (offset, vec![rng.random(); len as usize])
}

fn apply(content: &mut [u8], offset: u64, bytes: &[u8]) {
    content[offset as usize..][..bytes.len()].copy_from_slice(bytes);
}

impl Game<'_> {
    fn rng(&self, whose: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed * 4 + whose)
    }

    fn ours(&self) {
        let (client, mut rng) = (self.site.node.client(), self.rng(0));
        self.rounds_of(0, |volume| {
            match client.open(name(volume), Hint::default()) {
                Ok(()) => {
                    self.our_round(&client, volume, &mut rng);
                    client.close(name(volume), Hint::default()).unwrap();
                    true
                }
                Err(error) => {
                    assert_eq!(error.errno, libc::EBUSY, "{error}");
                    false
                }
            }
        });
    }

    fn our_round(&self, client: &Client, text: &str, rng: &mut ChaCha8Rng) {
        let mut model = self.alone(text);
        assert!(content(client, text) == *model, "{text} is wrong for us");
        let handle = volume(client, text);
        for _ in 0..rng.random_range(1..5) {
            let (offset, bytes) = draw(rng);
            handle.write_at(&bytes, offset).unwrap();
            apply(&mut model, offset, &bytes);
        }
        if rng.random_bool(0.2) {
            let snapshot = format!("ours-{}", self.done[0].load(SeqCst));
            client
                .snapshot(name(text), name(&snapshot), Hint::default())
                .unwrap();
            self.keep(snapshot, &model);
        }
    }

    fn theirs(&self) {
        let mut old = self.site.old();
        let mut rng = self.rng(1);
        self.rounds_of(1, |text| {
            if let Err(why) = old.ask(json!(["open", text])) {
                // Or by who has just released it.
                assert!(why.starts_with("locked by "), "{why}");
                return false;
            }
            let mut model = self.alone(text);
            let read = old.ask(json!(["hash", text])).unwrap();
            assert_eq!(read, json!(sha256(&model)), "{text} is wrong for them");
            for _ in 0..rng.random_range(1..5) {
                let (offset, bytes) = draw(&mut rng);
                old.ask(json!(["write", text, offset, hex(&bytes)]))
                    .unwrap();
                apply(&mut model, offset, &bytes);
                if rng.random_bool(0.1) {
                    // It dies, and comes back to what it left.
                    old = self.site.old();
                    old.ask(json!(["open", text])).unwrap();
                }
            }
            if rng.random_bool(0.2) {
                let snapshot = format!("theirs-{}", self.done[1].load(SeqCst));
                old.ask(json!(["snapshot", text, snapshot])).unwrap();
                self.keep(snapshot, &model);
            }
            drop(model);
            old.ask(json!(["close", text])).unwrap();
            true
        });
    }

    fn rounds_of(&self, whose: usize, mut round: impl FnMut(&str) -> bool) {
        let patience = Instant::now() + PATIENCE + Duration::from_secs(2 * self.rounds);
        let mut rng = self.rng(2 + whose as u64);
        while self.done[whose].load(SeqCst) < self.rounds {
            assert!(Instant::now() < patience, "stuck: {:?}", self.done);
            match round(VOLUMES[rng.random_range(0..VOLUMES.len())]) {
                true => self.done[whose].fetch_add(1, SeqCst),
                false => self.refused.fetch_add(1, SeqCst) as u64,
            };
        }
    }

    /// The content of a volume, for who has its lock.
    fn alone(&self, text: &str) -> std::sync::MutexGuard<'_, Vec<u8>> {
        let at = VOLUMES.iter().position(|one| *one == text).unwrap();
        let free = self.contents[at].try_lock();
        free.unwrap_or_else(|_| panic!("{text} is locked by both"))
    }

    fn keep(&self, snapshot: String, content: &[u8]) {
        self.snapshots
            .lock()
            .unwrap()
            .push((snapshot, sha256(content)));
    }

    /// Kills our node's process once in a while, as long as there are rounds.
    fn kill_ours(&self) -> u64 {
        let mut kills = 0;
        for goal in (1..self.rounds).step_by(6) {
            while self.done[0].load(SeqCst) < goal {
                std::thread::yield_now();
            }
            if let Some(pid) = self.site.node.pid_of("blockerm") {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                kills += 1;
            }
        }
        kills
    }
}

#[test]
fn an_old_and_a_new_node_take_turns() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = variable("ARCHIPELAGO_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    let rounds = variable("ARCHIPELAGO_TURNS").unwrap_or(30);
    println!("ARCHIPELAGO_SEED={seed} ARCHIPELAGO_TURNS={rounds}");
    let Some(site) = Site::new(seed % 2 == 0) else {
        return;
    };
    let client = site.node.client();
    for volume in VOLUMES {
        client.create(name(volume), SIZE).unwrap();
    }
    let game = Game {
        site: &site,
        contents: VOLUMES.map(|_| Mutex::new(vec![0; SIZE as usize])),
        snapshots: Mutex::default(),
        rounds,
        done: Default::default(),
        refused: AtomicUsize::new(0),
        seed,
    };
    let kills = std::thread::scope(|scope| {
        let both = [scope.spawn(|| game.ours()), scope.spawn(|| game.theirs())];
        let killer = scope.spawn(|| game.kill_ours());
        for thread in both {
            thread.join().unwrap();
        }
        killer.join().unwrap()
    });
    let mut old = site.old();
    let snapshots = game.snapshots.into_inner().unwrap();
    for (snapshot, hash) in &snapshots {
        assert_eq!(
            old.ask(json!(["hash", snapshot])).unwrap(),
            json!(hash),
            "{snapshot}"
        );
        assert_eq!(&sha256(&look(&client, snapshot)), hash, "{snapshot}");
    }
    checked(site.dir());
    // But for what a killed process had only prepared.
    let prepared = format!("_lock{OURS}_");
    let mut left = site.locks();
    left.retain(|(file, _)| !file.contains(&prepared));
    assert_eq!(left, []);
    println!(
        "{rounds} rounds each between {OURS} and {OLD}, {} refused, {kills} kills, {} snapshots",
        game.refused.load(SeqCst),
        snapshots.len()
    );
}
