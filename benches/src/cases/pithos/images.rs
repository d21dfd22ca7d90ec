//! CLONE of an image of Pithos, whose map is bare hashes at its old place, durable when answered.

use super::{hash_name, old_path};
use crate::case::{Case, Contender, Metric, Trouble, Turn, repeat};
use crate::cases::Setting;
use crate::goal::Goal;
use crate::lab::{Lab, Shape, Wanted, name};
use crate::raw::entry;
use client::{Client, Hint};
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use xseg::Name;

const SKETCH: &str = "raw: create + write + fsync + fsync of the directory, of 4 KiB or of as many bytes as the map has
clone: 32 bytes read and 128 written for each block, 512 KiB at a time; chunks, then header: 2 units, \
the lock's file besides
100 GiB: 0.8 MiB read, 3.2 MiB written; 1 TiB: 8 MiB read, 32 MiB written";

/// Bytes of an entry of a map of version 2.
const ENTRY: u64 = 128;
const UNIT: &str = "raw: create, write 4 KiB, fsync, fsync dir";

/// One case for each size.
pub fn cases(setting: &Setting) -> Vec<Case> {
    let lab = Lab::new(Wanted {
        parent: setting.disk.clone(),
        shape: Shape::One,
        direct: true,
        durable: false,
        volume: 0,
        rados: None,
    });
    let case = |title: &str, size: u64| {
        let slug = title.replace(' ', "").to_lowercase();
        let blocks = size / super::BLOCK as u64;
        let bytes = format!(
            "raw: create, write {} MiB, fsync, fsync dir",
            (blocks * ENTRY) >> 20
        );
        let ours = Cloning {
            lab: lab.clone(),
            size,
            place: None,
            count: 0,
        };
        let raw = |name: &str, len| Raw {
            name: name.to_owned(),
            dir: setting.disk.join("images"),
            len,
            count: 0,
        };
        // The larger one is bound by its map's bytes.
        let goal = match size < 1 << 40 {
            true => Goal::at_most_times(&ours.name(), 8.0, UNIT),
            false => Goal::at_most_times(&ours.name(), 1.0, &bytes),
        };
        let case = Case::new(
            format!("pithos/clone-{slug}"),
            format!("durable clone of an image of {title}"),
            SKETCH,
            Metric::MedianMillis,
        );
        case.wants(goal)
            .with(ours)
            .with(raw(UNIT, 4096))
            .with(raw(&bytes, blocks * ENTRY))
    };
    vec![case("100 GiB", 100 << 30), case("1 TiB", 1 << 40)]
}

struct Cloning {
    lab: Rc<Lab>,
    size: u64,
    place: Option<(Client, Name)>,
    count: u32,
}

impl Cloning {
    /// The map of an image: as many hashes as it has blocks.
    fn image(&self) -> Result<String, Trouble> {
        let node = self.lab.node()?;
        let folder = node.config().file.parent().map(|dir| dir.join("maps"));
        let folder = folder.ok_or_else(|| Trouble::Failed("the node has no folder".into()))?;
        let image = hash_name(self.size);
        let path = folder.join(old_path(&image));
        let blocks = self.size / super::BLOCK as u64;
        let hash = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let hashes: Vec<u8> = (1..=blocks).flat_map(|at| hash(at).repeat(4)).collect();
        let made = match path.parent() {
            Some(dir) => fs::create_dir_all(dir).and_then(|()| fs::write(&path, hashes)),
            None => Ok(()),
        };
        made.map_err(Trouble::failed("the image's map"))?;
        Ok(image)
    }
}

impl Contender for Cloning {
    fn name(&self) -> String {
        "create --snap IMAGE -v0".into()
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        let node = self.lab.node().ok()?;
        Some(node.pids().collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        let image = self.image()?;
        let client = self.lab.node()?.client()?;
        self.place = Some((client, name(image.as_bytes())));
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let missing = || Trouble::Failed("no image".into());
        let (client, image) = self.place.clone().ok_or_else(missing)?;
        let hint = Hint {
            assume_v0: true,
            v0_size: Some(self.size),
        };
        repeat(budget, || {
            self.count += 1;
            let text = format!("cloned-{}-{}", self.size >> 30, self.count);
            let new = name(text.as_bytes());
            let begin = Instant::now();
            let made = client.clone_volume(image, new, 0, hint);
            let elapsed = begin.elapsed();
            made.map_err(Trouble::failed("clone"))?;
            client
                .remove(new, Hint::default())
                .map_err(Trouble::failed("removal"))?;
            Ok(elapsed)
        })
    }

    fn teardown(&mut self) {
        self.place = None;
    }
}

struct Raw {
    name: String,
    dir: PathBuf,
    len: u64,
    count: u32,
}

impl Contender for Raw {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        fs::create_dir_all(&self.dir).map_err(Trouble::failed("directory"))?;
        repeat(budget, || {
            self.count += 1;
            let file = format!("{}-{}", self.len, self.count);
            let begin = Instant::now();
            entry::make(&self.dir, &file, self.len as usize).map_err(Trouble::failed("file"))?;
            let elapsed = begin.elapsed();
            fs::remove_file(self.dir.join(file)).map_err(Trouble::failed("removal"))?;
            Ok(elapsed)
        })
    }
}
