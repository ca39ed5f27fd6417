//! Writes an uncompressed tar archive (ustar) that is the same byte for byte every time: no owner, no time.

/// Size of a header and of the blocks that contents are padded to.
const BLOCK_BYTES: usize = 512;

/// An archive of files given as (name, permission bits, contents). Names are short ASCII.
pub(super) fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, contents) in files {
        out.extend_from_slice(&header(name, *mode, contents.len()));
        out.extend_from_slice(contents);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    // Two empty blocks end an archive.
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
    out
}

fn header(name: &str, mode: u32, length: usize) -> [u8; BLOCK_BYTES] {
    let mut block = [0_u8; BLOCK_BYTES];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{length:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
