//! The ciphers: what lies behind a value's mark.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, Payload};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, BlockEncryptMut, InnerIvInit, KeyInit};
use crypto_secretbox::XSalsa20Poly1305;

use crate::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    AesGcm,
    AesCbc,
    Secretbox,
}

/// A key of a length that its cipher does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret is not of the expected length, got {got}, expected one of {expected:?}")]
pub struct KeyLength {
    pub got: usize,
    pub expected: &'static [usize],
}

const IV: usize = 16;
const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

impl Cipher {
    /// As a configuration and a value's mark call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aesgcm",
            Self::AesCbc => "aescbc",
            Self::Secretbox => "secretbox",
        }
    }

    pub const fn key_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::Secretbox => &[32],
        }
    }

    pub(crate) const fn family(self) -> &'static str {
        match self {
            Self::AesGcm | Self::AesCbc => "AES",
            Self::Secretbox => "Secretbox",
        }
    }

    pub(crate) fn lock(self, key: &[u8]) -> Result<Box<dyn Lock>, KeyLength> {
        let wrong = KeyLength { got: key.len(), expected: self.key_lengths() };
        let lock: Box<dyn Lock> = match (self, key.len()) {
            (Self::AesGcm, 16) => Box::new(AesGcm::<Aes128, U12>::new_from_slice(key).map_err(|_| wrong)?),
            (Self::AesGcm, 24) => Box::new(AesGcm::<Aes192, U12>::new_from_slice(key).map_err(|_| wrong)?),
            (Self::AesGcm, 32) => Box::new(AesGcm::<Aes256, U12>::new_from_slice(key).map_err(|_| wrong)?),
            (Self::AesCbc, 16) => Box::new(Cbc(Aes128::new_from_slice(key).map_err(|_| wrong)?)),
            (Self::AesCbc, 24) => Box::new(Cbc(Aes192::new_from_slice(key).map_err(|_| wrong)?)),
            (Self::AesCbc, 32) => Box::new(Cbc(Aes256::new_from_slice(key).map_err(|_| wrong)?)),
            (Self::Secretbox, 32) => Box::new(XSalsa20Poly1305::new_from_slice(key).map_err(|_| wrong)?),
            (Self::AesGcm | Self::AesCbc | Self::Secretbox, _) => return Err(wrong),
        };
        Ok(lock)
    }
}

/// One key in use. `place` is where the value lies, which only GCM binds it to.
pub(crate) trait Lock: Send + Sync {
    fn lock(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error>;
    fn unlock(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error>;
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// Nonce, ciphertext, tag.
impl<C> Lock for AesGcm<C, U12>
where
    Self: Aead,
    Self: aes_gcm::aead::AeadCore<NonceSize = U12> + Send + Sync,
{
    fn lock(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = random::<GCM_NONCE>()?;
        let sealed = self.encrypt((&nonce).into(), Payload { msg: plain, aad: place }).map_err(|_| Error::Seal)?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn unlock(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (nonce, sealed) = sealed.split_at_checked(GCM_NONCE).ok_or(Error::Short)?;
        self.decrypt(nonce.into(), Payload { msg: sealed, aad: place }).map_err(|_| Error::Tampered)
    }
}

/// Nonce, tag, ciphertext: NaCl's box.
impl Lock for XSalsa20Poly1305 {
    fn lock(&self, _place: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = random::<BOX_NONCE>()?;
        let sealed = self.encrypt((&nonce).into(), plain).map_err(|_| Error::Seal)?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn unlock(&self, _place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        if sealed.len() < BOX_NONCE + BOX_TAG {
            return Err(Error::Short);
        }
        let (nonce, sealed) = sealed.split_at_checked(BOX_NONCE).ok_or(Error::Short)?;
        self.decrypt(nonce.into(), sealed).map_err(|_| Error::Box)
    }
}

/// IV, blocks padded as PKCS #7 says. Nothing in it tells whether it was changed.
struct Cbc<C>(C);

impl<C> Lock for Cbc<C>
where
    C: BlockCipher + BlockEncryptMut + BlockDecryptMut + Clone + Send + Sync,
    cbc::Encryptor<C>: InnerIvInit<Inner = C>,
    cbc::Decryptor<C>: InnerIvInit<Inner = C>,
{
    fn lock(&self, _place: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let iv = random::<IV>()?;
        let mode = cbc::Encryptor::inner_iv_slice_init(self.0.clone(), &iv).map_err(|_| Error::Seal)?;
        Ok([&iv[..], &mode.encrypt_padded_vec_mut::<Pkcs7>(plain)].concat())
    }

    fn unlock(&self, _place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (iv, sealed) = sealed.split_at_checked(IV).ok_or(Error::Short)?;
        if sealed.len() % IV != 0 {
            return Err(Error::Blocks);
        }
        let mode = cbc::Decryptor::inner_iv_slice_init(self.0.clone(), iv).map_err(|_| Error::Short)?;
        mode.decrypt_padded_vec_mut::<Pkcs7>(sealed).map_err(|_| Error::Padding)
    }
}
