//! Directories that lose as much as they may, and deaths, races and losses of power at every step.
//!
//! The strictest filesystem that POSIX allows: what was done to the entries of a directory is
//! durable when that directory was synced, and until then each entry is kept or lost by itself, in
//! no order. Real ones lose less; what holds here holds on all of them.

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const DIR: u64 = 0;

#[derive(Default)]
struct Model {
    /// Path to inode; directories are inode 0.
    seen: RefCell<BTreeMap<String, u64>>,
    durable: RefCell<BTreeMap<String, u64>>,
    /// Steps done so far.
    steps: Cell<usize>,
    /// What happens before a step, once.
    event: RefCell<Option<(usize, Event)>>,
    dead: Cell<bool>,
    /// Links are not permitted.
    no_links: Cell<bool>,
    /// Files that must never be lost.
    precious: RefCell<BTreeSet<u64>>,
}

type Event = Box<dyn FnOnce(&Model)>;

fn text(path: &CStr) -> String {
    path.to_str().unwrap().to_owned()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

impl Model {
    /// A durable file at the old place of [`HASH`].
    fn new() -> Model {
        let model = Model::default();
        let old = text(&one().from.path(HASH.as_bytes()));
        model.put(&old, 1);
        model.precious.borrow_mut().insert(1);
        model
    }

    fn put(&self, path: &str, inode: u64) {
        let mut at = path;
        let mut entries = vec![(path.to_owned(), inode)];
        while parent(at) != "." {
            at = parent(at);
            entries.push((at.to_owned(), DIR));
        }
        self.seen.borrow_mut().extend(entries.clone());
        self.durable.borrow_mut().extend(entries);
    }

    /// Before each step: what else happens, and that a loss of power now would lose nothing.
    fn step(&self) -> Answer<()> {
        let event = self
            .event
            .borrow_mut()
            .take_if(|(at, _)| *at == self.steps.get());
        self.steps.set(self.steps.get() + 1);
        if let Some((_, happen)) = event {
            happen(self);
        }
        self.assert_nothing_can_be_lost();
        match self.dead.get() {
            // A dead process does nothing, and what it would hear nobody hears.
            true => Err(Errno::IO),
            false => Ok(()),
        }
    }

    fn assert_nothing_can_be_lost(&self) {
        for inode in &*self.precious.borrow() {
            let seen = self.seen.borrow();
            let safe = seen
                .iter()
                .any(|(path, at)| at == inode && self.survives(path, *inode));
            assert!(
                safe,
                "file {inode} may be lost before step {}: {seen:?}, durable {:?}",
                self.steps.get(),
                self.durable.borrow()
            );
        }
    }

    /// Whether an entry and all that lead to it are there after any loss of power.
    fn survives(&self, path: &str, inode: u64) -> bool {
        let same = |all: &BTreeMap<String, u64>| all.get(path) == Some(&inode);
        let safe = same(&self.seen.borrow()) && same(&self.durable.borrow());
        safe && (parent(path) == "." || self.survives(parent(path), DIR))
    }

    fn is_dir(&self, path: &str) -> bool {
        path == "." || self.seen.borrow().get(path) == Some(&DIR)
    }

    fn files(&self) -> Vec<(String, u64)> {
        let seen = self.seen.borrow();
        let files = seen.iter().filter(|(_, inode)| **inode != DIR);
        files.map(|(path, inode)| (path.clone(), *inode)).collect()
    }

    /// Another node's sweep: every empty directory goes.
    fn sweep(&self) {
        loop {
            let seen = self.seen.borrow().clone();
            let full: BTreeSet<&str> = seen.keys().map(|path| parent(path)).collect();
            let empty =
                |(path, inode): &(&String, &u64)| **inode == DIR && !full.contains(path.as_str());
            let Some((path, _)) = seen.iter().find(empty) else {
                return;
            };
            self.seen.borrow_mut().remove(path);
        }
    }

    /// Another node's DELETE (`Core::delete`): the old name first.
    fn delete(&self) {
        let Move { name, from, to } = one();
        self.precious.borrow_mut().clear();
        for place in [from, to] {
            self.seen.borrow_mut().remove(&text(&place.path(&name)));
        }
    }

    /// The power fails: every change that was not synced is lost, and what nothing leads to.
    fn lose_power(&self) {
        let all = self.durable.borrow().clone();
        self.seen.replace(all.clone());
        let mut reached = all.clone();
        reached.retain(|path, inode| self.survives(path, *inode));
        self.seen.replace(reached.clone());
        self.durable.replace(reached);
    }

    fn at(self, step: usize, event: impl FnOnce(&Model) + 'static) -> Model {
        self.event.replace(Some((step, Box::new(event))));
        self
    }

    fn assert_moved(&self) {
        let new = text(&one().to.path(HASH.as_bytes()));
        assert_eq!(self.files(), [(new.clone(), 1)]);
        assert!(self.survives(&new, 1), "and it stays so");
    }
}

impl Dirs for Model {
    fn look(&self, path: &CStr) -> Answer<Option<Identity>> {
        self.step()?;
        let found = self.seen.borrow().get(&text(path)).copied();
        Ok(found.map(|inode| Identity {
            device: 1,
            inode,
            is_file: inode != DIR,
        }))
    }

    fn link(&self, old: &CStr, new: &CStr) -> Answer<()> {
        self.step()?;
        let (old, new) = (text(old), text(new));
        let found = self.seen.borrow().get(&old).copied();
        match found {
            Some(_) if self.is_dir(parent(&new)) && self.no_links.get() => Err(Errno::PERM),
            Some(inode) if self.is_dir(parent(&new)) => {
                let mut seen = self.seen.borrow_mut();
                if seen.contains_key(&new) {
                    return Err(Errno::EXIST);
                }
                seen.insert(new, inode);
                Ok(())
            }
            _ => Err(Errno::NOENT),
        }
    }

    fn unlink(&self, path: &CStr) -> Answer<()> {
        self.step()?;
        let gone = self.seen.borrow_mut().remove(&text(path));
        gone.map(drop).ok_or(Errno::NOENT)
    }

    fn make_dir(&self, path: &CStr) -> Answer<()> {
        self.step()?;
        let path = text(path);
        if !self.is_dir(parent(&path)) {
            return Err(Errno::NOENT);
        }
        match self.seen.borrow_mut().insert(path, DIR) {
            Some(_) => Err(Errno::EXIST),
            None => Ok(()),
        }
    }

    fn remove_dir(&self, path: &CStr) -> Answer<()> {
        self.step()?;
        let path = text(path);
        let mut seen = self.seen.borrow_mut();
        if seen.keys().any(|other| parent(other) == path) {
            return Err(Errno(libc::ENOTEMPTY));
        }
        seen.remove(&path).map(drop).ok_or(Errno::NOENT)
    }

    fn sync_dir(&self, path: &CStr) -> Answer<()> {
        self.step()?;
        let path = text(path);
        if !self.is_dir(&path) {
            return Err(Errno::NOENT);
        }
        let seen = self.seen.borrow();
        let mut durable = self.durable.borrow_mut();
        durable.retain(|entry, _| parent(entry) != path);
        let here = seen.iter().filter(|(entry, _)| parent(entry) == path);
        durable.extend(here.map(|(entry, inode)| (entry.clone(), *inode)));
        Ok(())
    }
}

fn one() -> Move {
    Move::of(&Name::try_from(HASH).unwrap()).unwrap()
}

fn run(model: &Model) -> Outcome {
    let mut outcomes = move_all(model, &[one()]);
    model.assert_nothing_can_be_lost();
    outcomes.remove(0)
}

/// How many steps a move takes that nobody disturbs.
fn steps() -> usize {
    let model = Model::new();
    assert_eq!(run(&model), Outcome::Moved);
    model.assert_moved();
    model.steps.get()
}

#[test]
fn a_death_or_a_loss_of_power_at_any_step_loses_nothing() {
    for power in [false, true] {
        for at in 0..=steps() {
            for again in 0..=steps() {
                let die = move |model: &Model| {
                    if power {
                        model.lose_power();
                    }
                    model.dead.set(true);
                };
                let model = Model::new().at(at, die);
                run(&model);
                // Its successor dies too, and the one after that finishes.
                model.dead.set(false);
                model.steps.set(0);
                let model = model.at(again, die);
                run(&model);
                model.event.take();
                model.dead.set(false);
                run(&model);
                model.assert_moved();
            }
        }
    }
}

/// Both nodes move the same; each is the one that is overtaken, at every step.
#[test]
fn two_nodes_move_the_same() {
    for at in 0..=steps() {
        let other = |model: &Model| {
            run(model);
        };
        let model = Model::new().at(at, other);
        run(&model);
        model.assert_moved();
    }
}

#[test]
fn directories_may_go_at_any_step() {
    for at in 0..=steps() {
        let model = Model::new().at(at, Model::sweep);
        assert_eq!(run(&model), Outcome::Moved, "before step {at}");
        model.assert_moved();
    }
}

/// A move must not bring back what is deleted meanwhile.
#[test]
fn what_is_deleted_stays_so() {
    for at in 0..=steps() {
        let model = Model::new().at(at, Model::delete);
        run(&model);
        // After the last step nothing happens any more by itself.
        if at < steps() {
            assert_eq!(model.files(), [], "before step {at}");
        }
    }
}

#[test]
fn two_files_of_one_name_both_stay() {
    let model = Model::new();
    let new = text(&one().to.path(HASH.as_bytes()));
    model.put(&new, 2);
    model.precious.borrow_mut().insert(2);
    let before = model.seen.borrow().clone();
    assert_eq!(run(&model), Outcome::Left(Why::Twice { new }));
    assert_eq!(*model.seen.borrow(), before);
}

#[test]
fn what_is_no_file_stays_and_nothing_is_made() {
    let model = Model::default();
    let old = text(&one().from.path(HASH.as_bytes()));
    model.put(&old, DIR);
    let before = model.seen.borrow().clone();
    assert_eq!(run(&model), Outcome::Left(Why::NoFile));
    assert_eq!(*model.seen.borrow(), before);
}

#[test]
fn what_may_not_be_linked_stays_and_nothing_is_made() {
    let model = Model::new();
    model.no_links.set(true);
    let before = model.seen.borrow().clone();
    assert_eq!(run(&model), Outcome::Left(failed("linked")(Errno::PERM)));
    assert_eq!(*model.seen.borrow(), before);
}
