//! Shuffle sharding: each flow is dealt a hand of queues, so that two flows seldom share all of theirs.

use sha2::{Digest as _, Sha256};

/// Deals hands out of a deck of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dealer {
    deck: u64,
    hand: u64,
}

impl Dealer {
    /// `None` where there are too few queues for a hand.
    pub fn new(deck: u64, hand: u64) -> Option<Self> {
        (hand >= 1 && hand <= deck).then_some(Self { deck, hand })
    }

    pub fn hand(self) -> u64 {
        self.hand
    }

    pub fn deck(self) -> u64 {
        self.deck
    }

    /// Different queues out of the deck, by the hash alone.
    pub fn deal(self, mut hash: u64) -> Vec<u64> {
        let mut drawn: Vec<u64> = Vec::new();
        for at in 0..self.hand {
            let left = self.deck - at;
            let mut card = hash % left;
            hash /= left;
            // A card is a place among those still in the deck: each that was drawn before it moves it on.
            let mut gone = drawn.clone();
            gone.sort_unstable();
            for other in gone {
                card += u64::from(other <= card);
            }
            drawn.push(card);
        }
        drawn
    }
}

/// What hands are dealt by: a flow is a schema and whatever tells its requests apart.
pub fn hash(schema: &str, distinguisher: &str) -> u64 {
    let digest = Sha256::new().chain_update(schema).chain_update([0]).chain_update(distinguisher).finalize();
    digest.iter().take(8).rev().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hand_is_of_different_queues(deck in 1u64..200, hand in 1u64..12, hash in any::<u64>()) {
            let Some(dealer) = Dealer::new(deck, hand) else {
                prop_assert!(hand > deck);
                return Ok(());
            };
            let mut dealt = dealer.deal(hash);
            prop_assert_eq!(&dealt, &dealer.deal(hash));
            dealt.sort_unstable();
            dealt.dedup();
            prop_assert_eq!(dealt.len() as u64, hand);
            prop_assert!(dealt.iter().all(|queue| *queue < deck));
        }
    }

    #[test]
    fn every_hand_is_dealt_once() {
        let dealer = Dealer::new(5, 3).unwrap();
        let mut hands: Vec<_> = (0..60).map(|hash| dealer.deal(hash)).collect();
        hands.sort();
        hands.dedup();
        assert_eq!(hands.len(), 60);
    }

    #[test]
    fn flows_have_hashes_of_their_own() {
        assert_eq!(hash("a", "b"), hash("a", "b"));
        assert_ne!(hash("a", "bc"), hash("ab", "c"));
    }
}
