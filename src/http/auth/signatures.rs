//! Signatures of JSON Web Tokens (RFC 7518, 3; RFC 8037), checked by `ring`, which does everything
//! else of TLS here too: the crate that reads tokens leaves the mathematics to whoever it is told.

use std::sync::LazyLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature as of_ring;

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
    signer_factory: |_, _| Err(Error::from(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| Ok(Box::new(Check::new(*algorithm, key)?)),
    // Of no use to whoever only verifies.
    key_utils: KeyUtils::new_unimplemented(),
});

/// What is taken: a key of the issuer's, never a secret that both sides know (`HS256`), since that
/// would let whoever knows the public key make tokens; and never `none`.
pub const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Has tokens of this process checked by `ring`.
pub fn install() {
    // An error means that it was done before, and nobody else does it.
    let _ = PROVIDER.install_default();
}

struct Check {
    algorithm: Algorithm,
    how: How,
    key: DecodingKey,
}

enum How {
    Rsa(&'static of_ring::RsaParameters),
    Plain(&'static dyn of_ring::VerificationAlgorithm),
}

impl Check {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        let how = match algorithm {
            Algorithm::RS256 => How::Rsa(&of_ring::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => How::Rsa(&of_ring::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => How::Rsa(&of_ring::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => How::Rsa(&of_ring::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => How::Rsa(&of_ring::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => How::Rsa(&of_ring::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => How::Plain(&of_ring::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => How::Plain(&of_ring::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => How::Plain(&of_ring::ED25519),
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        // Otherwise the bytes of one kind of key could be read as another's.
        if !key.family().algorithms().contains(&algorithm) {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        Ok(Self {
            algorithm,
            how,
            key: key.clone(),
        })
    }
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let held = match (&self.how, self.key.kind()) {
            (How::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let key = of_ring::RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature)
            }
            (How::Plain(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                of_ring::UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        held.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
