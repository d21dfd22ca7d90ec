//! What the old software left, and how it is seen to be readable: the trees of `tests/golden`, which
//! the original's formats fill, and more objects in the manner of Pithos before Archipelago.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::check;
use super::machine::Machine;
use crate::deb::failed;
use crate::test::workspace;

/// Pithos' block size.
const BLOCK: usize = 4 << 20;
/// Where gunicorn listens in its machine.
pub(super) const SOCKET: &str = "/run/gunicorn/synnefo.sock";

/// Something with bytes: an object of Pithos, or a volume.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    /// Of its bytes, in hex.
    pub(super) sha256: String,
}

/// Everything that must be readable to the end.
pub(super) struct Objects {
    /// Where the tree of the golden archive was unpacked.
    pub(super) tree: PathBuf,
    /// Objects of Pithos, each by its Merkle root.
    pub(super) pithos: Vec<Object>,
    /// Volumes of release 0.3.
    pub(super) volumes: Vec<Object>,
}

impl Objects {
    /// Unpacks the archive and adds generated objects to its tree.
    pub(super) fn new(dir: &Path) -> io::Result<Objects> {
        let golden = workspace().join("tests/golden");
        unpack(&golden.join("legacy.tar.zst"), dir)?;
        let text = fs::read(golden.join("manifest.json"))?;
        let manifest: Value = serde_json::from_slice(&text)?;
        let volumes = &manifest["trees"]["legacy"]["volumes"];
        let mut objects = Objects {
            tree: dir.join("legacy/00-before"),
            pithos: of_kind(volumes, "v0 (pithos map)")?,
            volumes: of_kind(volumes, "v1, file ")?,
        };
        objects.volumes.push(Object {
            // One block, which is named by its content.
            name: "legacyv1b".into(),
            size: BLOCK as u64,
            sha256: "677069a6b177697104d5e44fb4f1160133cbe5d32fc3eb0e4eab1c1f1f434a01".into(),
        });
        objects.generate()?;
        Ok(objects)
    }

    /// Objects of one byte to three blocks, some of whose blocks are equal, or all zeros.
    fn generate(&mut self) -> io::Result<()> {
        let sizes = [
            1,
            511,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            2 * BLOCK + 7,
            3 * BLOCK - 5,
        ];
        for (number, size) in sizes.into_iter().cycle().take(28).enumerate() {
            let content = content(number as u64 % 9, size);
            let name = store_the_old_way(&self.tree, &content)?;
            let sha256 = hex(&Sha256::digest(&content));
            if self.pithos.iter().all(|object| object.name != name) {
                let size = size as u64;
                self.pithos.push(Object { name, size, sha256 });
            }
        }
        Ok(())
    }

    /// Reads every old object through the workers of Pithos.
    pub(super) fn are_served(&self, worker: &Machine) -> io::Result<()> {
        for object in &self.pithos {
            let bytes = get(worker, &format!("/{}/{}", object.name, object.size))?;
            if hex(&Sha256::digest(&bytes)) != object.sha256 {
                return Err(failed(format!("{} has other bytes", object.name)));
            }
        }
        let count = self.pithos.len();
        check(
            count > 20,
            format!("{count} old objects are served, with their hashes"),
        )
    }

    /// Reads the volumes of release 0.3 through the tools of `machine`.
    pub(super) fn volumes_are_readable(&self, machine: &Machine) -> io::Result<()> {
        self.volumes.iter().try_for_each(|volume| {
            let hash = volume_hash(machine, &volume.name)?;
            check(
                hash == volume.sha256,
                format!("{} has its hash", volume.name),
            )
        })
    }
}

fn of_kind(volumes: &Value, kind: &str) -> io::Result<Vec<Object>> {
    let volumes = volumes.as_object().into_iter().flatten();
    let wanted = volumes.filter(|(_, v)| v["kind"].as_str().is_some_and(|k| k.starts_with(kind)));
    let object = |(name, v): (&String, &Value)| {
        Some(Object {
            name: name.clone(),
            size: v["size"].as_u64()?,
            sha256: v["sha256"].as_str()?.to_owned(),
        })
    };
    let found: Option<Vec<Object>> = wanted.map(object).collect();
    found.ok_or_else(|| failed("the manifest of the golden trees has another form"))
}

fn unpack(archive: &Path, to: &Path) -> io::Result<()> {
    let mut zstd = Command::new("zstd");
    let mut zstd = zstd
        .args(["-dc", "--long=27"])
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()?;
    let pipe = zstd.stdout.take().ok_or_else(|| failed("no pipe"))?;
    let tar = Command::new("tar")
        .args(["-xf", "-", "-C"])
        .arg(to)
        .stdin(pipe)
        .status()?;
    match zstd.wait()?.success() && tar.success() {
        true => Ok(()),
        false => Err(failed(format!("{} does not unpack", archive.display()))),
    }
}

/// Bytes that are the same in every run. Every third seed has a whole block of zeros.
pub(super) fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    if seed.is_multiple_of(3) && size > BLOCK {
        bytes[..BLOCK].fill(0);
    }
    bytes
}

/// Blocks and a map of raw hashes, each at its first six characters. Returns the map's name.
fn store_the_old_way(tree: &Path, content: &[u8]) -> io::Result<String> {
    let put = |kind: &str, name: &str, bytes: &[u8]| {
        let dir = tree
            .join(kind)
            .join(&name[..2])
            .join(&name[2..4])
            .join(&name[4..6]);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), bytes)
    };
    let mut hashes = Vec::new();
    for block in content.chunks(BLOCK) {
        let len = block
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        let hash: [u8; 32] = Sha256::digest(&block[..len]).into();
        // The block of zeros has a name, and no file.
        if len > 0 {
            put("blocks", &hex(&hash), &block[..len])?;
        }
        hashes.push(hash);
    }
    let name = hex(&merkle(&hashes));
    put("maps", &name, &hashes.concat())?;
    Ok(name)
}

/// The root over the hashes, filled up with zeros to a power of two.
fn merkle(hashes: &[[u8; 32]]) -> [u8; 32] {
    let mut level = hashes.to_vec();
    if level.len() > 1 {
        level.resize(level.len().next_power_of_two(), [0; 32]);
    }
    while level.len() > 1 {
        let pairs = level
            .chunks(2)
            .map(|pair| Sha256::digest(pair.concat()).into());
        level = pairs.collect();
    }
    level
        .first()
        .copied()
        .unwrap_or_else(|| Sha256::digest([]).into())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sha256 of a whole volume.
pub(super) fn volume_hash(machine: &Machine, volume: &str) -> io::Result<String> {
    volume_hash_of(machine, &format!("export {volume}"), u64::MAX >> 1)
}

/// The sha256 of the first `size` bytes that `vlmc WORDS -` writes.
pub(super) fn volume_hash_of(machine: &Machine, words: &str, size: u64) -> io::Result<String> {
    let line = format!("vlmc {words} - | head -c {size} | sha256sum");
    let out = machine.ok_quietly(&line)?;
    Ok(out.split_whitespace().next().unwrap_or_default().to_owned())
}

/// What the workers answer to GET.
pub(super) fn get(worker: &Machine, path: &str) -> io::Result<Vec<u8>> {
    ask(worker, &format!("GET {path} HTTP/1.0\r\n\r\n"), &[])
}

/// What they answer to PUT.
pub(super) fn put(worker: &Machine, path: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let len = bytes.len();
    ask(
        worker,
        &format!("PUT {path} HTTP/1.0\r\nContent-Length: {len}\r\n\r\n"),
        bytes,
    )
}

fn ask(worker: &Machine, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let named = |why| {
        failed(format!(
            "gunicorn: {}: {why}",
            head.lines().next().unwrap_or("")
        ))
    };
    let mut stream = UnixStream::connect(worker.path(SOCKET)).map_err(named)?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| named(io::ErrorKind::UnexpectedEof.into()))?;
    let text = String::from_utf8_lossy(&answer[..end]);
    match text
        .lines()
        .next()
        .is_some_and(|line| line.contains(" 200 "))
    {
        true => Ok(answer.split_off(end + 4)),
        false => Err(failed(format!(
            "{head}: {}",
            String::from_utf8_lossy(&answer)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `merkle` of python/tests/pithos_store.py, which was written from the same sentence.
    #[test]
    fn one_block_is_its_own_root_and_three_are_filled_up() {
        let [a, b, c] = [1u8, 2, 3].map(|byte| [byte; 32]);
        assert_eq!(merkle(&[a]), a);
        let pair =
            |x: [u8; 32], y: [u8; 32]| -> [u8; 32] { Sha256::digest([x, y].concat()).into() };
        assert_eq!(merkle(&[a, b, c]), pair(pair(a, b), pair(c, [0; 32])));
        assert_eq!(hex(&merkle(&[])), hex(&Sha256::digest([])));
    }
}
