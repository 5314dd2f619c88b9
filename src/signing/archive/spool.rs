//! A tar archive in a file that can be read at any offset, whatever it was packed with.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::domain::digest::hex;

/// KiB that unpacking xz may need; `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 256 << 10;
/// What is unpacked may be so many times as large as the archive: images rarely come to a tenth.
const MAX_RATIO: u64 = 100;
/// Small archives may unpack to this in any case, and none to more than the other.
const FREE_OUTPUT: u64 = 1 << 30;
const MAX_OUTPUT: u64 = 256 << 30;

/// The archive itself when it is not packed, else what it unpacks to. The error completes "the archive: …".
pub(super) fn plain(file: File, size: u64, scratch: &Path, progress: &dyn Fn(u64, u64)) -> Result<File, String> {
    let mut magic = [0; 6];
    let read = file.read_at(&mut magic, 0).map_err(|error| error.to_string())?;
    let counted = Counted { file: BufReader::with_capacity(super::STEP, file), read: 0, size, progress };
    let limit = size.saturating_mul(MAX_RATIO).clamp(FREE_OUTPUT, MAX_OUTPUT);
    match magic.get(..read).unwrap_or_default() {
        [0x1f, 0x8b, ..] => unpack(MultiGzDecoder::new(counted), limit, scratch),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unpack(XzReader::new_mem_limit(counted, true, XZ_MEMORY), limit, scratch),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Err("packed by zstd, which is not read: unpack it with zstd -d, and give the tar archive".to_owned())
        }
        _ => Ok(counted.file.into_inner()),
    }
}

fn unpack(mut from: impl Read, limit: u64, scratch: &Path) -> Result<File, String> {
    let failed = |error: io::Error| format!("a file to unpack it in {}: {error}", scratch.display());
    let file = unnamed(scratch).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(super::STEP, &file);
    let mut buffer = vec![0; super::STEP];
    let mut written: u64 = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("it cannot be unpacked; is it whole? {error}")),
        };
        written += read as u64;
        if written > limit {
            return Err(format!("it unpacks to more than {limit} bytes, which no archive of images does"));
        }
        writer.write_all(buffer.get(..read).unwrap_or_default()).map_err(failed)?;
    }
    writer.flush().map_err(failed)?;
    drop(writer);
    Ok(file)
}

/// A file that is gone with the process, however that ends.
fn unnamed(folder: &Path) -> io::Result<File> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
    let path = folder.join(format!(".podseal-{}", hex(&random)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Tells how much was read.
struct Counted<'a> {
    file: BufReader<File>,
    read: u64,
    size: u64,
    progress: &'a dyn Fn(u64, u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        (self.progress)(self.read, self.size);
        Ok(read)
    }
}
