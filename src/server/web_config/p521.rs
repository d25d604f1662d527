//! Key exchange on the curve P-521, which rustls leaves out and the cryptography below it has.

use aws_lc_rs::{
    agreement::{ECDH_P521, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup},
    ffdhe_groups::FfdheGroup,
};

/// The group, for a `CryptoProvider`.
pub(super) static SECP521R1: &dyn SupportedKxGroup = &Secp521r1;

#[derive(Debug)]
struct Secp521r1;

impl SupportedKxGroup for Secp521r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new()).map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Exchange {
    private: EphemeralPrivateKey,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // TLS knows uncompressed points alone, and the library below others too.
        if peer.first() != Some(&4) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let wrong: Error = PeerMisbehaved::InvalidKeyShare.into();
        agree_ephemeral(self.private, UnparsedPublicKey::new(&ECDH_P521, peer), wrong, |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_get_the_same_secret_and_only_from_a_point_of_the_curve() {
        let (ours, theirs) = (SECP521R1.start().unwrap(), SECP521R1.start().unwrap());
        let (our_point, their_point) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
        assert_eq!(our_point.len(), 1 + 2 * 66);
        let (one, other) = (ours.complete(&their_point).unwrap(), theirs.complete(&our_point).unwrap());
        assert!(one.secret_bytes().len() == 66 && one.secret_bytes() == other.secret_bytes());
        let mut off_the_curve = our_point.clone();
        off_the_curve[132] ^= 1;
        let compressed = [&[2], &our_point[1..67]].concat();
        for wrong in [&off_the_curve[..], &compressed, &our_point[..132], &[4; 133], &[]] {
            assert!(SECP521R1.start().unwrap().complete(wrong).is_err(), "{wrong:?}");
        }
    }
}
