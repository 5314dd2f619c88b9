//! The signed message of simple signing: one signature over one literal, nothing beside them.

use std::borrow::Cow;
use std::io::Read;

use sequoia_openpgp::Packet;
use sequoia_openpgp::packet::{OnePassSig, Signature};
use sequoia_openpgp::parse::{Dearmor, PacketParser, PacketParserBuilder, PacketParserResult, Parse};
use sequoia_openpgp::types::SignatureType;

use super::super::SignatureError;
use super::compressed;

/// Largest blob read, in bytes; the limit of containers/image for one signature.
pub(super) const MAX_BLOB: usize = 4 << 20;
/// Largest signed content, in bytes, after decompression. Real payloads are below one kilobyte.
pub(super) const MAX_CONTENT: u64 = 1 << 20;
/// Compressed packets inside one another. Real messages have one, or none.
pub(super) const MAX_NESTING: u8 = 3;
/// Largest packet other than literal and compressed data, in bytes. Post-quantum signatures stay below 50 KiB.
const MAX_PACKET: u32 = 64 << 10;

/// A message of the right structure; nothing about it is verified.
pub(super) struct UntrustedMessage {
    /// The body of its only literal packet.
    pub(super) content: Vec<u8>,
    /// Its only signature.
    pub(super) signature: Signature,
}

impl UntrustedMessage {
    /// The bytes the signature's digest covers: always made from `content`, so that what is checked is what is used.
    ///
    /// A text-mode signature covers the content with CR LF line endings (RFC 9580, 5.2.1.2).
    pub(super) fn signed_bytes(&self) -> Cow<'_, [u8]> {
        if self.signature.typ() != SignatureType::Text {
            return Cow::Borrowed(&self.content);
        }
        let mut text = Vec::with_capacity(self.content.len());
        let mut before = 0_u8;
        for &byte in &self.content {
            if byte == b'\n' && before != b'\r' {
                text.push(b'\r');
            }
            text.push(byte);
            before = byte;
        }
        Cow::Owned(text)
    }
}

/// Reads a blob of one of the forms `[OnePass][Literal][Signature]` and `[Signature][Literal]`, compressed or not.
///
/// Armor, the cleartext framework, markers, encryption, further signatures, literals or data behind the message are
/// refused, as containers-signature(5) demands. Time and memory are bounded by the limits above: a packet of another
/// kind or beyond a count ends the reading before its content is touched.
pub(super) fn read(blob: &[u8]) -> Result<UntrustedMessage, SignatureError> {
    if blob.len() > MAX_BLOB {
        return Err(malformed("larger than 4 MiB"));
    }
    check_first_byte(blob)?;
    let mut parts = Parts::default();
    let mut next = PacketParserBuilder::from_bytes(blob)
        .map(|builder| builder.dearmor(Dearmor::Disabled).automatic_hashing(false))
        .map(|builder| builder.max_packet_size(MAX_PACKET).max_recursion_depth(MAX_NESTING))
        .and_then(PacketParserBuilder::build)
        .map_err(|_| damaged())?;
    while let PacketParserResult::Some(mut packet) = next {
        parts.admit(&mut packet)?;
        let (packet, rest) = packet.recurse().map_err(|_| damaged())?;
        parts.keep(packet);
        next = rest;
    }
    let PacketParserResult::EOF(end) = next else { return Err(damaged()) };
    if parts.literals == 1 && parts.signatures == 0 {
        return Err(malformed("no signature packet"));
    }
    end.is_message().map_err(|_| malformed("not a signed OpenPGP message"))?;
    compressed::check_end(blob)?;
    parts.finish()
}

/// The byte by which containers/image tells simple signing (`signature.FromBlob`): compressed data, one-pass
/// signature or signature. `93` is meant there and mistyped as `3D`.
fn check_first_byte(blob: &[u8]) -> Result<(), SignatureError> {
    match blob.first() {
        None => Err(malformed("empty")),
        Some(0x88..=0x8B | 0x90..=0x93 | 0xA0..=0xA3 | 0xC2 | 0xC4 | 0xC8) => Ok(()),
        Some(b'-') => Err(malformed("armored or cleartext OpenPGP data; sign in binary form (`gpg --sign`)")),
        Some(_) => Err(malformed("not a binary OpenPGP signed message")),
    }
}

/// What was seen so far.
#[derive(Default)]
struct Parts {
    one_pass: Option<OnePassSig>,
    one_passes: u32,
    signatures: u32,
    signature: Option<Signature>,
    literals: u32,
    content: Vec<u8>,
}

impl Parts {
    /// Refuses a packet that does not belong here before anything more is read, and reads the content of a literal.
    fn admit(&mut self, packet: &mut PacketParser<'_>) -> Result<(), SignatureError> {
        match packet.packet {
            Packet::OnePassSig(_) => at_most_one(&mut self.one_passes, "more than one one-pass signature packet"),
            Packet::Signature(_) => at_most_one(&mut self.signatures, "more than one signature"),
            Packet::Literal(_) => {
                at_most_one(&mut self.literals, "more than one literal packet")?;
                self.read_content(packet)
            }
            // Checked here and not left to the parser: it would skip the packet and decompress all of it meanwhile.
            Packet::CompressedData(_) if packet.recursion_depth() >= isize::from(MAX_NESTING) => {
                Err(malformed("compressed too many times"))
            }
            Packet::CompressedData(_) if !packet.processed() => Err(malformed("compressed in an unsupported way")),
            Packet::CompressedData(_) => Ok(()),
            Packet::PKESK(_) | Packet::SKESK(_) | Packet::SEIP(_) => Err(malformed("encrypted")),
            _ => Err(malformed("a packet that does not belong into a signed message")),
        }
    }

    fn read_content(&mut self, packet: &mut PacketParser<'_>) -> Result<(), SignatureError> {
        packet.take(MAX_CONTENT + 1).read_to_end(&mut self.content).map_err(|_| damaged())?;
        if self.content.len() as u64 > MAX_CONTENT {
            return Err(malformed("the signed content is larger than 1 MiB"));
        }
        Ok(())
    }

    fn keep(&mut self, packet: Packet) {
        match packet {
            Packet::OnePassSig(one_pass) => self.one_pass = Some(one_pass),
            Packet::Signature(signature) => self.signature = Some(signature),
            _ => {}
        }
    }

    fn finish(self) -> Result<UntrustedMessage, SignatureError> {
        if self.literals != 1 {
            return Err(malformed("no content (a detached signature?)"));
        }
        let signature = self.signature.ok_or_else(|| malformed("no signature packet"))?;
        // A streaming reader such as gpg digests by what the one-pass packet announces: the two must agree.
        let announced = self.one_pass.is_none_or(|one_pass| {
            one_pass.typ() == signature.typ()
                && one_pass.hash_algo() == signature.hash_algo()
                && one_pass.pk_algo() == signature.pk_algo()
        });
        if !announced {
            return Err(malformed("the one-pass signature packet announces another signature"));
        }
        if !matches!(signature.typ(), SignatureType::Binary | SignatureType::Text) {
            return Err(malformed("not a signature over a document"));
        }
        Ok(UntrustedMessage { content: self.content, signature })
    }
}

fn at_most_one(count: &mut u32, error: &'static str) -> Result<(), SignatureError> {
    *count += 1;
    if *count > 1 { Err(malformed(error)) } else { Ok(()) }
}

pub(super) fn malformed(what: &str) -> SignatureError {
    SignatureError::Malformed(what.to_owned())
}

fn damaged() -> SignatureError {
    malformed("damaged or truncated OpenPGP data")
}
