//! Commits that are fetched before they are wanted: so many that the way to the store costs little, and
//! no more bytes of them than a reader may hold, however large they are.

use std::ops::Range;

use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};

use crate::error::StoreError;
use oms_core::domain::ids::Offset;

/// Bytes fetched ahead, going by the size of the objects seen so far.
const AHEAD_BYTES: usize = 8 << 20;

/// Objects fetched ahead before any was seen: some of the largest.
const FIRST: usize = 4;

/// How many to fetch ahead.
#[derive(Debug)]
struct Width {
    most: usize,
    /// The largest object of late, in bytes.
    expected: Option<usize>,
}

impl Width {
    fn now(&self) -> usize {
        let fits = self
            .expected
            .map_or(FIRST, |bytes| AHEAD_BYTES / bytes.max(1));
        fits.clamp(1, self.most.max(1))
    }

    /// A large object narrows it at once; it widens again with every smaller one.
    fn saw(&mut self, bytes: usize) {
        let faded = self
            .expected
            .map_or(bytes, |before| before - before / 4 + bytes / 4);
        self.expected = Some(faded.max(bytes));
    }
}

/// What `fetch` gives for each of `offsets`, in their order, with at most `most` fetched ahead of whoever
/// reads. `size` tells the bytes of an object.
pub fn read_ahead<'a, T, F>(
    offsets: Range<Offset>,
    most: usize,
    fetch: impl Fn(Offset) -> F + Send + 'a,
    size: impl Fn(&T) -> usize + Send + 'a,
) -> impl Stream<Item = Result<T, StoreError>> + Send + 'a
where
    T: Send + 'a,
    F: Future<Output = Result<T, StoreError>> + Send + 'a,
{
    let width = Width {
        most,
        expected: None,
    };
    let fetched = FuturesOrdered::new();
    stream::unfold(
        (offsets, width, fetched, fetch, size),
        |(mut offsets, mut width, mut fetched, fetch, size)| async move {
            while fetched.len() < width.now() {
                let Some(offset) = offsets.next() else {
                    break;
                };
                fetched.push_back(fetch(offset));
            }
            let next = fetched.next().await?;
            if let Ok(object) = &next {
                width.saw(size(object));
            }
            Some((next, (offsets, width, fetched, fetch, size)))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// Reads objects of these sizes; gives the most bytes that were fetched and not taken yet.
    async fn most_held(sizes: &[usize]) -> usize {
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let fetch = |offset: Offset| {
            let bytes = sizes[offset as usize];
            most.fetch_max(held.fetch_add(bytes, SeqCst) + bytes, SeqCst);
            async move { Ok((offset, bytes)) }
        };
        let read = read_ahead(0..sizes.len() as Offset, 32, fetch, |(_, bytes)| *bytes);
        let mut read = std::pin::pin!(read);
        let mut expected = 0;
        while let Some(object) = read.next().await {
            let (offset, bytes) = object.unwrap();
            assert_eq!(offset, expected, "in order");
            expected += 1;
            held.fetch_sub(bytes, SeqCst);
        }
        assert_eq!(expected, sizes.len() as Offset, "all of them");
        most.load(SeqCst)
    }

    #[tokio::test]
    async fn law_13_what_is_read_ahead_is_bounded_in_bytes() {
        const LARGE: usize = 4 << 20;
        assert!(most_held(&[LARGE; 100]).await <= 4 * LARGE);
        assert_eq!(most_held(&[1000; 100]).await, 32_000, "as many as may be");
        // A few large ones among small ones: it stays narrow for a while.
        let mixed: Vec<usize> = (0..200)
            .map(|i| if i % 8 == 0 { LARGE } else { 1000 })
            .collect();
        assert!(most_held(&mixed).await <= 5 * LARGE);
        assert_eq!(most_held(&[]).await, 0);
    }
}
