//! Which requests, in which order.
//!
//! Requests are numbered from 0; a random order is a permutation of the numbers that takes no
//! memory: `i -> a i + b mod n` with `a` prime to `n`. Blocks are counted through the objects.

use super::cli::{Cli, Operation, Pattern, Verify};

/// Requests are pages at least.
const PAGE: u64 = 4096;

/// What a run is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) operation: Operation,
    pub(super) verify: Verify,
    pub(super) depth: usize,
    pub(super) block: u64,
    pub(super) seed: u64,
    name: Naming,
    blocks_per_object: u64,
    order: Order,
    count: u64,
}

#[derive(Clone, Debug)]
enum Naming {
    One(String),
    Many(String),
}

#[derive(Clone, Copy, Debug)]
struct Order {
    len: u64,
    factor: u64,
    start: u64,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) target: String,
    pub(super) offset: u64,
    /// Which block of the whole run it is.
    pub(super) number: u64,
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Order {
    fn new(pattern: Pattern, len: u64, seed: u64) -> Order {
        if pattern == Pattern::Seq || len < 2 {
            return Order {
                len,
                factor: 1,
                start: 0,
            };
        }
        let mixed = super::content::mix(seed);
        // Near the golden section of the whole: neighbours land far apart.
        let near = (len as f64 * 0.618) as u64 + mixed % (len / 8 + 1);
        let prime = |factor: &u64| gcd(*factor, len) == 1;
        let factor = (near.max(1)..).find(prime).unwrap_or(1);
        Order {
            len,
            factor,
            start: mixed % len,
        }
    }

    fn at(&self, index: u64) -> u64 {
        let product = u128::from(index) * u128::from(self.factor) + u128::from(self.start);
        (product % u128::from(self.len.max(1))) as u64
    }
}

/// Refused at once: every request past the end would go wrong, and the figures be worth nothing.
fn check_end(end: u64, whole: u64) -> Result<(), String> {
    match end <= whole {
        true => Ok(()),
        false => Err(format!(
            "{end} bytes are asked for, but the volume has {whole}: give a smaller -ts, or none for all of it"
        )),
    }
}

impl Plan {
    /// Reads the plan from the command line; `whole` is the size of the volume, if it is one: all of
    /// it is used unless something else is said, and nothing past its end.
    pub(super) fn new(cli: &Cli, whole: Option<u64>) -> Result<Plan, String> {
        let (block, object) = (cli.block_size, cli.object_size);
        if block == 0 || block % PAGE != 0 {
            return Err(format!("the size of a request is a multiple of {PAGE}"));
        }
        if object == 0 || object % block != 0 {
            return Err("the size of an object is a multiple of that of a request".into());
        }
        let seed = cli
            .seed
            .unwrap_or_else(|| rand::random_range(0..1_000_000_000));
        let one = cli.volume.as_ref().or(cli.objname.as_ref());
        let total = cli.total.or(whole);
        let moves_data = matches!(cli.operation, Operation::Read | Operation::Write);
        let len = match (moves_data, cli.objects, total, one) {
            (true, Some(objects), _, _) => objects.checked_mul(object / block),
            (true, None, Some(total), _) => Some(total / block),
            (true, None, None, Some(_)) => Some(object / block),
            (true, None, None, None) => return Err("how much? Give -to N or -ts SIZE".into()),
            (false, _, _, Some(_)) => Some(cli.objects.or(cli.requests).unwrap_or(1)),
            (false, Some(objects), _, None) => Some(objects),
            (false, None, _, None) => return Err("how many objects? Give -to N".into()),
        };
        let len = len.filter(|&len| len > 0).ok_or("there is nothing to do")?;
        if let Some(whole) = whole.filter(|_| moves_data) {
            check_end(len.saturating_mul(block), whole)?;
        }
        Ok(Plan {
            operation: cli.operation,
            verify: cli.verify,
            depth: cli.iodepth.max(1),
            block,
            seed,
            name: match one {
                Some(name) => Naming::One(name.clone()),
                None => Naming::Many(format!("{}-{seed:09}", cli.prefix)),
            },
            blocks_per_object: if moves_data { object / block } else { 1 },
            order: Order::new(cli.pattern, len, seed),
            count: cli.requests.map_or(len, |cap| cap.min(len)),
        })
    }

    /// How many requests there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The request of this index.
    pub(super) fn step(&self, index: u64) -> Step {
        let number = self.order.at(index);
        match &self.name {
            Naming::One(name) => Step {
                target: name.clone(),
                offset: number * self.block,
                number,
            },
            Naming::Many(prefix) => Step {
                target: format!("{prefix}-{:015}", number / self.blocks_per_object),
                offset: number % self.blocks_per_object * self.block,
                number,
            },
        }
    }

    /// Whether requests carry data.
    pub(super) fn moves_data(&self) -> bool {
        matches!(self.operation, Operation::Read | Operation::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::collections::HashSet;

    fn plan_of(words: &str, whole: Option<u64>) -> Result<Plan, String> {
        let words = format!("x --operation {words}");
        Plan::new(&Cli::parse_from(words.split(' ')), whole)
    }

    fn plan(words: &str) -> Result<Plan, String> {
        plan_of(words, None)
    }

    /// Requests past the end of a volume were sent, and "went wrong".
    #[test]
    fn nothing_is_asked_past_the_end_of_a_volume() {
        let count = |words: &str| {
            let words = format!("read --volume x --config y {words}");
            plan_of(words.trim_end(), Some(8 << 20)).map(|plan| plan.count())
        };
        assert_eq!((count(""), count("--total 8m")), (Ok(2048), Ok(2048)));
        let sentence = "bytes are asked for, but the volume has 8388608";
        for words in ["--total 9m", "--total 9m --requests 1"] {
            assert!(count(words).unwrap_err().contains(sentence), "{words}");
        }
    }

    #[test]
    fn objects_are_named_as_the_original_named_them() {
        let plan = plan("write --objects 2 --object-size 8k --seed 7").unwrap();
        let steps: Vec<(String, u64)> = (0..plan.count())
            .map(|i| plan.step(i))
            .map(|s| (s.target, s.offset))
            .collect();
        let name = |object| format!("bench-000000007-{object:015}");
        let expected = [(name(0), 0), (name(0), 4096), (name(1), 0), (name(1), 4096)];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_random_order_visits_every_block_once() {
        for total in ["4k", "12k", "40k", "4m", "7m"] {
            let words = format!("read --pattern rand --total {total} --objname x --seed 3");
            let plan = plan(&words).unwrap();
            let seen: HashSet<u64> = (0..plan.count()).map(|i| plan.step(i).number).collect();
            assert_eq!(seen.len() as u64, plan.count(), "{total}");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(plan("read --total 1m --block-size 1000").is_err());
        assert!(plan("read --total 1m --block-size 12k").is_err());
        assert!(plan("read").is_err() && plan("delete").is_err());
        assert!(plan("read --total 1").is_err());
    }
}
