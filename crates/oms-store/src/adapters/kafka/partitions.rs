//! The partition of a key in a topic: murmur2, as Java's producers and Kafka Streams compute it, so
//! that equal keys of different producers share a partition. Computed here rather than by
//! librdkafka, because [`super::wave`] needs to know it.

const SEED: u32 = 0x9747_b28c;
const FACTOR: u32 = 0x5bd1_e995;

/// Leaves the choice to librdkafka, which then reports that the topic is missing.
const UNASSIGNED: i32 = -1;

/// The partition of `key` among `partitions`.
pub(super) fn partition_of(key: &str, partitions: i32) -> i32 {
    match u32::try_from(partitions) {
        // The remainder is below the number of partitions, which fits.
        Ok(n @ 1..) => ((murmur2(key.as_bytes()) & 0x7fff_ffff) % n) as i32,
        _ => UNASSIGNED,
    }
}

fn murmur2(bytes: &[u8]) -> u32 {
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mixed = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ mixed;
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test of its function.
    #[test]
    fn keys_go_where_javas_clients_send_them() {
        let expected: [(&str, i32); 5] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
        ];
        for (key, hash) in expected {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!((partition_of("21", 1), partition_of("21", 0)), (0, -1));
        assert!((0..7).contains(&partition_of("order/1", 7)));
    }
}
