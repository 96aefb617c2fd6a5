//! Signs an EFI program (Microsoft, "Windows Authenticode Portable Executable Signature Format"; RFC 2315). No time goes into the signature, and
//! RSA with PKCS #1 v1.5 needs no random numbers: the same program and key give the same bytes.

use super::pe::{self, PeError};
use super::{Owner, SecureBootError};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

/// Object identifiers, as DER has them.
mod oid {
    pub const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    pub const INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
    pub const PE_IMAGE_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f];
    pub const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    pub const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    pub const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
    pub const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` of what has parts, and `[2]`.
const TAG_0: u8 = 0xa0;
const TAG_2: u8 = 0xa2;
/// `[0]` in place of a string's own tag.
const STRING_0: u8 = 0x80;
const ONE: &[u8] = &[1];

/// One value of DER: tag, length, and the parts in a row.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![tag];
    let length = body.len().to_be_bytes();
    match body.len() {
        short @ 0..=127 => bytes.push(u8::try_from(short).unwrap_or(0)),
        _ => {
            let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            bytes.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
            bytes.extend(significant);
        }
    }
    bytes.extend(body);
    bytes
}

fn algorithm(name: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(OID, &[name]), &der(NULL, &[])])
}

pub struct Signer {
    key: RsaKeyPair,
    certificate: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
}

impl Signer {
    /// Of PEM texts; `owner` is for messages.
    pub fn new(key: &[u8], certificate: &[u8], owner: &Owner) -> Result<Self, SecureBootError> {
        let (key_path, certificate_path) = (owner.key.display().to_string(), owner.certificate.display().to_string());
        let no_key = || SecureBootError::Key { path: key_path.clone() };
        let block = pem::parse(key).map_err(|_| no_key())?;
        let pair = match block.tag() {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(block.contents()),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(block.contents()),
            _ => return Err(no_key()),
        };
        let pair = pair.map_err(|_| no_key())?;
        let none = || SecureBootError::Certificate { path: certificate_path.clone() };
        let block = pem::parse(certificate).map_err(|_| none())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(block.contents()).map_err(|_| none())?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key().as_ref() {
            return Err(SecureBootError::Apart { certificate: certificate_path, key: key_path });
        }
        let (issuer, serial) = (parsed.issuer().as_raw().to_vec(), parsed.raw_serial().to_vec());
        Ok(Self { key: pair, certificate: block.contents().to_vec(), issuer, serial })
    }

    /// The program with a signature behind it. The outer error is of the key, the inner one of the program.
    pub fn sign(&self, program: &[u8]) -> Result<Result<Vec<u8>, PeError>, SecureBootError> {
        let prepared = pe::unsigned(program).and_then(|bytes| Ok((pe::hash(&bytes)?, bytes)));
        match prepared {
            Ok((hash, bytes)) => Ok(pe::attach(bytes, &self.signed_data(&hash)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn signed_data(&self, hash: &[u8; 32]) -> Result<Vec<u8>, SecureBootError> {
        let sha256 = algorithm(oid::SHA256);
        // SpcPeImageData: no flags; in place of a file's name what everybody writes.
        let obsolete: Vec<u8> = "<<<Obsolete>>>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let file = der(TAG_0, &[&der(TAG_2, &[&der(STRING_0, &[&obsolete])])]);
        let image = der(SEQUENCE, &[&der(BIT_STRING, &[&[0]]), &file]);
        let data = der(SEQUENCE, &[&der(OID, &[oid::PE_IMAGE_DATA]), &image]);
        let message = der(SEQUENCE, &[&sha256, &der(OCTETS, &[hash])]);
        let content = [data, message].concat();
        let indirect = der(SEQUENCE, &[&content]);

        let attribute = |name: &[u8], value: &[u8]| der(SEQUENCE, &[&der(OID, &[name]), &der(SET, &[value])]);
        // The digest is of the content without its own tag and length (RFC 2315, 9.3). A set's values are in the order of their bytes.
        let mut attributes = [
            attribute(oid::CONTENT_TYPE, &der(OID, &[oid::INDIRECT_DATA])),
            attribute(oid::MESSAGE_DIGEST, &der(OCTETS, &[digest(&SHA256, &content).as_ref()])),
        ];
        attributes.sort();
        let attributes = attributes.concat();
        // What is signed is the set; what is kept has a tag in its place.
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &der(SET, &[&attributes]), &mut signature)
            .map_err(|_| SecureBootError::Random)?;
        let version = der(INTEGER, &[ONE]);
        let signer = der(
            SEQUENCE,
            &[
                &version,
                &der(SEQUENCE, &[&self.issuer, &der(INTEGER, &[&self.serial])]),
                &sha256,
                &der(TAG_0, &[&attributes]),
                &algorithm(oid::RSA),
                &der(OCTETS, &[&signature]),
            ],
        );
        let signed = der(
            SEQUENCE,
            &[
                &version,
                &der(SET, &[&sha256]),
                &der(SEQUENCE, &[&der(OID, &[oid::INDIRECT_DATA]), &der(TAG_0, &[&indirect])]),
                &der(TAG_0, &[&self.certificate]),
                &der(SET, &[&signer]),
            ],
        );
        Ok(der(SEQUENCE, &[&der(OID, &[oid::SIGNED_DATA]), &der(TAG_0, &[&signed])]))
    }
}
