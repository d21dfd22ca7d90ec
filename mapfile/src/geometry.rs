//! How a volume is cut into blocks. All arithmetic on sizes happens here, after the checks that
//! make it safe: a size never exceeds `i64::MAX` (what a file offset can express) and a block
//! size is a power of two of at least 256, so there are fewer than 2^55 blocks and no product in
//! this crate overflows.

use crate::error::FormatError;
use std::ops::Range;

/// Largest size of a volume, in bytes.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// Bytes of one v2 entry; a chunk object holds as many as fit into one block.
pub(crate) const V2_ENTRY_LEN: u64 = 128;

/// Bytes per block: a power of two above 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(u32);

impl BlockSize {
    /// 4 MiB, the block size of v0, v1 and of every volume that does not say otherwise.
    pub const DEFAULT: BlockSize = BlockSize(4 << 20);

    /// Checks a stored or requested block size, in bytes.
    pub fn new(bytes: u32) -> Result<Self, FormatError> {
        match bytes.is_power_of_two() && u64::from(bytes) > V2_ENTRY_LEN {
            true => Ok(BlockSize(bytes)),
            false => Err(FormatError::BlockSize(bytes)),
        }
    }

    /// As [`BlockSize::new`], but 0 stands for the default, as in a CREATE request.
    pub fn from_request(bytes: u32) -> Result<Self, FormatError> {
        match bytes {
            0 => Ok(BlockSize::DEFAULT),
            _ => BlockSize::new(bytes),
        }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// v2 entries in one chunk object.
    pub fn entries_per_chunk(self) -> u64 {
        u64::from(self.0) / V2_ENTRY_LEN
    }
}

/// The part of a byte range that lies in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Index of the block.
    pub block: u64,
    /// First byte, counted from the start of the block.
    pub offset: u32,
    /// Number of bytes, at least one.
    pub len: u32,
}

/// Size and block size of a volume; the rest follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    size: u64,
    block_size: BlockSize,
}

impl Geometry {
    /// Refuses a size that no volume can have. Size 0 is accepted, because the original's
    /// truncate could store it; refusing to *create* such a volume is the caller's rule.
    pub fn new(size: u64, block_size: BlockSize) -> Result<Self, FormatError> {
        match size <= MAX_SIZE {
            true => Ok(Geometry { size, block_size }),
            false => Err(FormatError::Oversize(size)),
        }
    }

    /// Bytes of the volume.
    pub fn size(self) -> u64 {
        self.size
    }

    /// Bytes per block.
    pub fn block_size(self) -> BlockSize {
        self.block_size
    }

    /// Blocks of the volume; the last one may be cut short by its end.
    pub fn block_count(self) -> u64 {
        self.size.div_ceil(self.block_bytes())
    }

    /// Bytes of block `index` that belong to the volume.
    ///
    /// # Panics
    /// If the volume has no such block.
    pub fn block_len(self, index: u64) -> u32 {
        assert!(
            index < self.block_count(),
            "block {index} is past the end of the volume"
        );
        let start = index * self.block_bytes();
        (self.size - start).min(self.block_bytes()) as u32
    }

    /// The index of the block that holds the byte at `offset`, and the offset inside it.
    pub fn locate(self, offset: u64) -> (u64, u32) {
        (
            offset / self.block_bytes(),
            (offset % self.block_bytes()) as u32,
        )
    }

    /// The blocks that `len` bytes at `offset` touch: none for `len` 0, an error past the end
    /// (`spec/observed.md` point 17).
    pub fn blocks_of(self, offset: u64, len: u64) -> Result<Range<u64>, FormatError> {
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= self.size)
            .ok_or(FormatError::Range {
                offset,
                len,
                size: self.size,
            })?;
        let first = offset / self.block_bytes();
        match len {
            0 => Ok(first..first),
            _ => Ok(first..end.div_ceil(self.block_bytes())),
        }
    }

    /// The range `len` bytes at `offset`, cut at block boundaries and in order; an error past the
    /// end, as for [`Geometry::blocks_of`].
    pub fn pieces(self, offset: u64, len: u64) -> Result<impl Iterator<Item = Piece>, FormatError> {
        let blocks = self.blocks_of(offset, len)?;
        let (block_bytes, end) = (self.block_bytes(), offset + len);
        Ok(blocks.map(move |block| {
            let start = block * block_bytes;
            let (from, to) = (offset.max(start), end.min(start + block_bytes));
            Piece {
                block,
                offset: (from - start) as u32,
                len: (to - from) as u32,
            }
        }))
    }

    /// Chunk objects of a v2 map of this geometry.
    pub fn chunk_count(self) -> u64 {
        self.block_count()
            .div_ceil(self.block_size.entries_per_chunk())
    }

    fn block_bytes(self) -> u64 {
        u64::from(self.block_size.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(size: u64) -> Geometry {
        Geometry::new(size, BlockSize::DEFAULT).unwrap()
    }

    #[test]
    fn block_sizes() {
        for bad in [1, 64, 128, 129, 4095, u32::MAX] {
            assert_eq!(BlockSize::new(bad), Err(FormatError::BlockSize(bad)));
        }
        assert_eq!(BlockSize::new(0), Err(FormatError::BlockSize(0)));
        assert_eq!(BlockSize::from_request(0), Ok(BlockSize::DEFAULT));
        for good in [256, 4096, 1 << 31] {
            assert_eq!(BlockSize::new(good).unwrap().bytes(), good);
        }
    }

    #[test]
    fn blocks_and_chunks_are_counted_upwards() {
        let block = 4 << 20;
        for (size, blocks) in [(0, 0), (1, 1), (block, 1), (block + 1, 2), (10 << 20, 3)] {
            assert_eq!(geometry(size).block_count(), blocks);
        }
        assert_eq!(geometry(128 << 30).chunk_count(), 1);
        assert_eq!(geometry((128 << 30) + 1).chunk_count(), 2);
    }

    #[test]
    fn the_last_block_is_short() {
        assert_eq!(geometry(10 << 20).block_len(1), 4 << 20);
        assert_eq!(geometry(10 << 20).block_len(2), 2 << 20);
    }

    #[test]
    fn ranges_end_with_the_volume() {
        let volume = geometry(10 << 20);
        assert_eq!(volume.blocks_of(0, 10 << 20), Ok(0..3));
        assert_eq!(volume.blocks_of((4 << 20) - 1, 2), Ok(0..2));
        assert_eq!(
            volume.blocks_of(10 << 20, 0).map(|r| r.is_empty()),
            Ok(true)
        );
        for (offset, len) in [(10 << 20, 1), ((10 << 20) + 1, 0), (u64::MAX, 2)] {
            let error = FormatError::Range {
                offset,
                len,
                size: 10 << 20,
            };
            assert_eq!(volume.blocks_of(offset, len), Err(error));
        }
    }

    #[test]
    fn ranges_are_cut_at_block_boundaries() {
        let block = 4 << 20;
        let pieces: Vec<_> = geometry(10 << 20)
            .pieces((1 << 20) + 1, 8 << 20)
            .unwrap()
            .map(|piece| (piece.block, piece.offset, piece.len))
            .collect();
        let first = (1 << 20) + 1;
        assert_eq!(
            pieces,
            [(0, first, block - first), (1, 0, block), (2, 0, first)]
        );
    }

    #[test]
    fn the_largest_volume_of_the_smallest_blocks_does_not_overflow() {
        let largest = Geometry::new(MAX_SIZE, BlockSize::new(256).unwrap()).unwrap();
        assert_eq!(largest.block_count(), 1 << 55);
        assert_eq!(largest.chunk_count(), 1 << 54);
        assert_eq!(largest.block_len((1 << 55) - 1), 255);
        let beyond = Geometry::new(MAX_SIZE + 1, BlockSize::DEFAULT);
        assert_eq!(beyond, Err(FormatError::Oversize(MAX_SIZE + 1)));
    }
}
