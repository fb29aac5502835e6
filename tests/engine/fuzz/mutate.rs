//! Seeded mutation of a corpus: the same seed gives the same inputs.

use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Inputs of one target in CI: a second or two each.
const RUNS: u64 = 20_000;

/// Largest input: beyond it only time is spent.
const MAX_BYTES: usize = 16 << 10;

/// What breaks parsers more often than chance does.
const NASTY: [&[u8]; 18] = [
    b"\n",
    b"\"",
    b"\\",
    b"\0",
    b"{",
    b"}",
    b"[[[[[[[[",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967295",
    b"1e999",
    b"\\ud800",
    b"%2F",
    b"%",
    b"\xff\xfe",
    b"null",
];

/// A corpus and a stream of what becomes of it.
pub struct Fuzz {
    seed: u64,
    rng: StdRng,
    corpus: Vec<Vec<u8>>,
}

impl Fuzz {
    /// The corpus in `tests/engine/fuzz/corpus/<name>`.
    pub fn of(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/engine/fuzz/corpus")
            .join(name);
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .expect("a corpus")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        let corpus = files.iter().map(|f| std::fs::read(f).expect("readable"));
        Self::with(corpus.collect())
    }

    /// A corpus made on the spot.
    pub fn with(corpus: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty(), "a corpus");
        let seed = match std::env::var("OMS_FUZZ_SEED") {
            Ok(text) => text.parse().expect("a number"),
            Err(_) => u64::from(rand::random::<u32>()),
        };
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            corpus,
        }
    }

    /// Runs `target` on the corpus itself and on what becomes of it; tells the seed and the input
    /// when it panics. `target` says whether it took the input: what is taken joins the corpus, so
    /// that changes add up.
    pub fn run(self, target: impl Fn(&[u8]) -> bool + std::panic::RefUnwindSafe) {
        self.run_times(RUNS, target);
    }

    /// The same for a target that takes its time.
    pub fn run_few(self, target: impl Fn(&[u8]) -> bool + std::panic::RefUnwindSafe) {
        self.run_times(RUNS / 20, target);
    }

    fn run_times(mut self, runs: u64, target: impl Fn(&[u8]) -> bool + std::panic::RefUnwindSafe) {
        for input in self.corpus.clone() {
            assert!(self.try_one(&input, &target), "the corpus itself is taken");
        }
        let runs = match std::env::var("OMS_FUZZ_RUNS") {
            Ok(text) => text.parse().expect("a number"),
            Err(_) => runs,
        };
        let mut taken = 0_u64;
        for _ in 0..runs {
            let input = self.next();
            if self.try_one(&input, &target) {
                taken += 1;
                // Bounded, and the oldest stay: they are the richest.
                if self.corpus.len() < 256 && self.rng.random_bool(0.05) {
                    self.corpus.push(input);
                }
            }
        }
        eprintln!("{runs} inputs, {taken} taken, OMS_FUZZ_SEED={}", self.seed);
    }

    fn try_one(
        &self,
        input: &[u8],
        target: &(impl Fn(&[u8]) -> bool + std::panic::RefUnwindSafe),
    ) -> bool {
        match std::panic::catch_unwind(|| target(input)) {
            Ok(taken) => taken,
            Err(panic) => {
                let seed = self.seed;
                eprintln!(
                    "OMS_FUZZ_SEED={seed} input ({} bytes):\n{}\nhex {}",
                    input.len(),
                    String::from_utf8_lossy(input),
                    hex::encode(input)
                );
                std::panic::resume_unwind(panic)
            }
        }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.corpus.choose(&mut self.rng).expect("one").clone();
        for _ in 0..self.rng.random_range(1..6) {
            self.mutate(&mut input);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let len = input.len();
        let at = rng.random_range(0..=len);
        let until = rng.random_range(at..=len.min(at + 64));
        match rng.random_range(0..9) {
            0 if at < len => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < len => input[at] = rng.random(),
            2 => drop(input.drain(at..until)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..until].to_vec();
                let to = rng.random_range(0..=len);
                input.splice(to..to, piece);
            }
            5 | 6 => {
                let piece = *NASTY.choose(rng).expect("one");
                let over = rng.random_range(0..=piece.len().min(len - at));
                input.splice(at..at + over, piece.iter().copied());
            }
            7 => {
                // A number becomes another one.
                if let Some(digit) = input[at..].iter().position(u8::is_ascii_digit) {
                    input[at + digit] = b'0' + rng.random_range(0..10);
                }
            }
            _ => {
                let other = self.corpus.choose(rng).expect("one");
                let from = rng.random_range(0..=other.len());
                let piece = other[from..other.len().min(from + 200)].to_vec();
                input.splice(at..until, piece);
            }
        }
    }
}
