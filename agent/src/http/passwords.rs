//! Whether a password is that of a user, by bcrypt.
//!
//! A hash is made to be dear, so one is computed at a time, on a blocking thread, and what was right is
//! remembered: the next scrape costs a keyed hash. What was wrong never is. A name that nobody has costs as
//! much as the dearest one, so time does not tell names.
//!
//! ```text
//!  name, password ─► remembered? ─yes─► right
//!                        └─no─► one at a time: bcrypt ─► right (remembered) | wrong
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bcrypt::HashParts;
use ring::{hmac, rand::SystemRandom};
use tokio::sync::Semaphore;

/// Passwords that are remembered; the oldest is forgotten, and hashed again. As many as the exporter toolkit's.
const REMEMBERED_MAX: usize = 100;
/// Hashes that are computed at the same time: whoever guesses takes one CPU at most.
const AT_ONCE: usize = 1;
/// Dearest hash: a request is over after five seconds, and twice as much takes longer than that.
const COST_MAX: u32 = 15;

/// Names and their hashes.
#[derive(Clone, Debug, Default)]
pub(super) struct Users {
    all: Vec<(String, String)>,
    /// What a name that nobody has is compared with.
    dearest: String,
}

impl Users {
    /// Each hash has passed [`check`].
    pub(super) fn new(all: Vec<(String, String)>) -> Users {
        let dearest = all.iter().max_by_key(|(_, hash)| cost(hash).ok());
        let dearest = dearest.map(|(_, hash)| hash.clone()).unwrap_or_default();
        Users { all, dearest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The hash to compare with, and whether there is such a user.
    fn hash(&self, name: &str) -> (&str, bool) {
        let found = self.all.iter().find(|(it, _)| it == name);
        found.map_or((&self.dearest, false), |(_, hash)| (hash, true))
    }
}

/// Whether a hash can be compared with.
pub(super) fn check(hash: &str) -> Result<(), String> {
    const FIX: &str = "`htpasswd -nBC 10 NAME` makes one";
    match cost(hash) {
        Ok(cost) if cost > COST_MAX => Err(format!(
            "a hash of cost {cost} takes longer than a request may: {FIX}, of at most {COST_MAX}"
        )),
        Ok(cost) if cost < 4 => Err(format!("there is no cost {cost}: {FIX}")),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("no hash of bcrypt ({error}): {FIX}")),
    }
}

fn cost(hash: &str) -> Result<u32, bcrypt::BcryptError> {
    Ok(hash.parse::<HashParts>()?.get_cost())
}

/// What judges passwords, and remembers those that were right.
#[derive(Debug)]
pub(super) struct Judge {
    turns: Arc<Semaphore>,
    /// Of this process alone: what is remembered is of no use to anyone else.
    key: hmac::Key,
    remembered: Mutex<VecDeque<Remembered>>,
}

/// Keyed hash of a name, its password's hash and the password.
type Remembered = [u8; 32];

impl Judge {
    pub(super) fn new() -> Judge {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Judge {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            key: key.expect("the kernel gives random numbers"),
            remembered: Mutex::default(),
        }
    }

    /// Whether the password is that of the user. Waits for its turn.
    pub(super) async fn is_right(
        self: &Arc<Self>,
        users: &Users,
        name: &str,
        password: &[u8],
    ) -> bool {
        let (hash, is_user) = users.hash(name);
        let tag = self.tag(name, hash, password);
        if is_user && self.remembers(&tag) {
            return true;
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        // Whoever was before us may have had the same.
        if is_user && self.remembers(&tag) {
            return true;
        }
        let (judge, hash, password) = (Arc::clone(self), hash.to_owned(), password.to_owned());
        let judged = tokio::task::spawn_blocking(move || {
            // To the end, also if the client has gone: it will come back.
            let _turn = turn;
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false) && is_user;
            if is_right {
                judge.remember(tag);
            }
            is_right
        });
        judged.await.unwrap_or(false)
    }

    fn tag(&self, name: &str, hash: &str, password: &[u8]) -> Remembered {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// How long the comparison takes tells of hashes whose key nobody has.
    fn remembers(&self, tag: &Remembered) -> bool {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).contains(tag)
    }

    fn remember(&self, tag: Remembered) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() == REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(pairs: &[(&str, &str)]) -> Users {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        Users::new(pairs.iter().map(|(name, it)| ((*name).to_owned(), hash(it))).collect())
    }

    #[tokio::test]
    async fn only_the_password_of_that_user_is_right() {
        let (judge, users) = (Arc::new(Judge::new()), users(&[("a", "of a"), ("b", "of b")]));
        for (name, password, expected) in [
            ("a", "of a", true),
            ("a", "of b", false),
            ("a", "", false),
            ("b", "of b", true),
            // Compared with the hash of a user, and yet nobody.
            ("c", "of a", false),
            ("c", "of b", false),
            ("", "of a", false),
        ] {
            for _ in 0..2 {
                let is_right = judge.is_right(&users, name, password.as_bytes()).await;
                assert_eq!(is_right, expected, "{name}: {password}");
            }
        }
        assert_eq!(judge.remembered.lock().unwrap().len(), 2, "what was wrong is remembered");
    }

    #[tokio::test]
    async fn a_password_that_was_changed_is_wrong() {
        let judge = Arc::new(Judge::new());
        assert!(judge.is_right(&users(&[("a", "old")]), "a", b"old").await);
        assert!(!judge.is_right(&users(&[("a", "new")]), "a", b"old").await);
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room() {
        let judge = Judge::new();
        for at in 0..=u8::try_from(REMEMBERED_MAX).unwrap() {
            judge.remember([at; 32]);
        }
        assert_eq!(judge.remembered.lock().unwrap().len(), REMEMBERED_MAX);
        assert!(judge.remembers(&[1; 32]) && !judge.remembers(&[0; 32]));
    }

    #[test]
    fn names_that_nobody_has_cost_as_much_as_the_dearest() {
        let [cheap, dear] = [4, 6].map(|cost| bcrypt::hash("x", cost).unwrap());
        let users = Users::new(vec![("a".into(), cheap), ("b".into(), dear.clone())]);
        assert_eq!(users.hash("nobody"), (&*dear, false));
    }

    #[test]
    fn hashes_that_cannot_be_compared_are_refused() {
        let of = |cost: &str| {
            format!("$2y${cost}$abcdefghijklmnopqrstuuKOMPpvgGz7eyvdgpxpMWqX5eFIQw2g.")
        };
        assert_eq!(check(&of("10")), Ok(()));
        for (hash, words) in [
            ("plain", "no hash of bcrypt"),
            ("", "no hash of bcrypt"),
            (&of("16"), "cost 16 takes longer"),
            (&of("02"), "no cost 2"),
        ] {
            let error = check(hash).unwrap_err();
            assert!(error.contains(words) && error.contains("htpasswd -nBC 10"), "{error}");
        }
    }
}
