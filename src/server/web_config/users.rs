//! Users, and whether a password is theirs.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr as _,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use tokio::{sync, task::spawn_blocking};

use super::{
    Report,
    document::{Secret, line, shown},
};
use crate::server::sending::lock;

/// Names and the hashes of their passwords.
#[derive(Debug)]
pub(super) struct Users(BTreeMap<String, SecretString>);

const MIN_COST: u32 = 4;

/// What a password is compared with where there is no such user. It costs what hashes usually cost, as the toolkit's
/// does: with the cost of the dearest user, whoever knows no password could make all others wait that long.
const HASH_OF_NOBODY: &str = "$2y$10$zMiIyLBKx3lVnyPVaHBIQOrepLyK1vQsuBLFjAC99yZBmbhIubbvG";

impl Users {
    /// Reads the section.
    pub(super) fn read(users: BTreeMap<String, Secret>, report: &mut Report) -> Self {
        let mut read = BTreeMap::new();
        for (user, hash) in users {
            let at = hash.as_ref().and_then(|hash| line(hash.referenced.line()));
            let hash = hash.map(|hash| hash.value).unwrap_or_default();
            let key = format!("basic_auth_users.{}", shown(&user));
            match check_hash(hash.expose_secret()) {
                Ok(()) => {
                    if user.contains(':') {
                        report.warnings.push(format!(
                            "{key} lets nobody in: a name cannot be sent with a colon in it, so choose one without"
                        ));
                    }
                    read.insert(user, hash);
                }
                Err(text) => {
                    let remedy = "make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`";
                    report.mistake(at, &key, format!("{text}; {remedy}"));
                }
            }
        }
        Self(read)
    }

    /// Whether everybody may ask.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether a password can be compared with a hash.
fn check_hash(hash: &str) -> Result<(), String> {
    const LENGTH: usize = 60;
    let found = hash.len();
    if found != LENGTH {
        let way = if found < LENGTH { "short" } else { "long" };
        return Err(format!(
            "hashedSecret too {way} to be a bcrypted password: it has {found} characters and must have {LENGTH}"
        ));
    }
    let parts = HashParts::from_str(hash)
        .map_err(|error| format!("this is no bcrypt hash, which looks like $2y$10$ and 53 more characters: {error}"))?;
    let cost = parts.get_cost();
    if !(MIN_COST..=31).contains(&cost) {
        return Err(format!("the bcrypt cost {cost} is outside allowed inclusive range 4..31"));
    }
    Ok(())
}

/// What a request says of who sent it.
pub(in crate::server) struct Credentials {
    user: Vec<u8>,
    password: SecretBox<Vec<u8>>,
}

impl Credentials {
    /// Reads the value of the header `Authorization`; `None` if that is not a name and a password.
    pub(in crate::server) fn from_header(value: &[u8]) -> Option<Self> {
        let (scheme, encoded) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let both = SecretBox::new(Box::new(BASE64_STANDARD.decode(encoded).ok()?));
        let both = both.expose_secret();
        let colon = both.iter().position(|&byte| byte == b':')?;
        Some(Self { user: both[..colon].to_vec(), password: SecretBox::new(Box::new(both[colon + 1..].to_vec())) })
    }
}

/// Compares passwords, one at a time because it is slow on purpose, and remembers what came of it.
pub(super) struct Authenticator {
    results: Mutex<Results>,
    comparing: Arc<sync::Mutex<()>>,
    /// Results are kept under a code that only this process can make of a password.
    key: hmac::Key,
}

/// How many results are remembered.
const MAX_RESULTS: usize = 100;

/// Whether each was right, and when it was put here.
#[derive(Default)]
struct Results {
    of: HashMap<Code, (bool, u64)>,
    put: u64,
}

type Code = [u8; 32];

impl Authenticator {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())
            .expect("there are random numbers, or no TLS connection could be made either");
        Self { results: Mutex::default(), comparing: Arc::default(), key }
    }

    /// Whether there is this user and the password is theirs.
    pub(super) async fn accepts(&self, users: &Users, credentials: Credentials) -> bool {
        let Credentials { user, password } = credentials;
        let known = str::from_utf8(&user).ok().and_then(|user| users.0.get(user));
        let hash = known.cloned().unwrap_or_else(|| HASH_OF_NOBODY.into());
        let code = self.code(&user, hash.expose_secret(), password.expose_secret());
        let remembered = lock(&self.results).get(&code);
        let right = match remembered {
            Some(right) => right,
            None => {
                let turn = Arc::clone(&self.comparing).lock_owned().await;
                // Somebody with the same may have been waited for.
                let remembered = lock(&self.results).get(&code);
                match remembered {
                    Some(right) => right,
                    None => {
                        let compared = spawn_blocking(move || {
                            // Also when nobody waits for the result any more, no other begins before the end.
                            let _turn = turn;
                            bcrypt::verify(password.expose_secret(), hash.expose_secret()).unwrap_or(false)
                        });
                        let right = compared.await.unwrap_or(false);
                        lock(&self.results).put(code, right);
                        right
                    }
                }
            }
        };
        right && known.is_some()
    }

    fn code(&self, user: &[u8], hash: &str, password: &[u8]) -> Code {
        let mut code = hmac::Context::with_key(&self.key);
        for part in [user, hash.as_bytes(), password] {
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        let mut bytes = Code::default();
        bytes.copy_from_slice(code.sign().as_ref());
        bytes
    }
}

impl Results {
    fn get(&self, code: &Code) -> Option<bool> {
        self.of.get(code).map(|(right, _)| *right)
    }

    /// Wrong ones make room first, so that who guesses does not slow down who knows.
    fn put(&mut self, code: Code, right: bool) {
        if self.of.len() >= MAX_RESULTS {
            let oldest = self.of.iter().min_by_key(|(_, result)| **result).map(|(code, _)| *code);
            oldest.map(|oldest| self.of.remove(&oldest));
        }
        self.put += 1;
        self.of.insert(code, (right, self.put));
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(passwords: &[(&str, &str)]) -> Users {
        let hash = |password: &str| bcrypt::hash(password, MIN_COST).unwrap().into();
        Users(passwords.iter().map(|(user, password)| ((*user).to_owned(), hash(password))).collect())
    }

    fn says(user: &str, password: &str) -> Credentials {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Credentials::from_header(format!("Basic {encoded}").as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn nobody_gets_in_with_the_password_that_stands_in_for_users_that_there_are_not() {
        // It costs as much however dear the hashes of users are.
        assert!(HASH_OF_NOBODY.starts_with("$2y$10$") && check_hash(HASH_OF_NOBODY).is_ok());
        assert!(bcrypt::verify("a password of nobody", HASH_OF_NOBODY).unwrap());
        let (users, authenticator) = (users(&[("alice", "right"), ("carol", "a:colon")]), Authenticator::new());
        // The second time it is remembered.
        for _ in 0..2 {
            for (user, password, expected) in [
                ("alice", "right", true),
                ("carol", "a:colon", true),
                ("alice", "wrong", false),
                ("nobody", "a password of nobody", false),
                ("", "a password of nobody", false),
            ] {
                assert_eq!(authenticator.accepts(&users, says(user, password)).await, expected, "{user}");
            }
        }
    }

    #[tokio::test]
    async fn who_guesses_pushes_no_right_password_out_of_the_memory() {
        let (users, authenticator) = (users(&[("alice", "right")]), Authenticator::new());
        let hash = users.0["alice"].expose_secret();
        assert!(authenticator.accepts(&users, says("alice", "right")).await);
        for number in 0..2 * MAX_RESULTS {
            let code = authenticator.code(b"alice", hash, number.to_string().as_bytes());
            lock(&authenticator.results).put(code, false);
        }
        let results = lock(&authenticator.results);
        assert_eq!(results.of.len(), MAX_RESULTS);
        assert_eq!(results.get(&authenticator.code(b"alice", hash, b"right")), Some(true));
        // The latest of the guesses are there, and nothing is under another name or hash.
        let last = (2 * MAX_RESULTS - 1).to_string();
        assert_eq!(results.get(&authenticator.code(b"alice", hash, last.as_bytes())), Some(false));
        for (user, hash, password) in [("bob", hash, "right"), ("alice", "", "right"), ("alicer", hash, "ight")] {
            assert_eq!(results.get(&authenticator.code(user.as_bytes(), hash, password.as_bytes())), None);
        }
        drop(results);
    }

    #[tokio::test]
    async fn one_password_is_compared_at_a_time() {
        let (users, authenticator) = (users(&[("alice", "right")]), Authenticator::new());
        let turn = Arc::clone(&authenticator.comparing).lock_owned().await;
        let mut waiting = std::pin::pin!(authenticator.accepts(&users, says("alice", "right")));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(lock(&authenticator.results).of.is_empty());
        drop(turn);
        assert!(waiting.await);
    }
}
