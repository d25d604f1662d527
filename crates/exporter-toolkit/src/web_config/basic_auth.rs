//! Users, and whether a password is theirs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    str::FromStr as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::spawn_blocking,
};

use super::{
    document::Secret,
    report::{Findings, line, shown},
};
use crate::lock;

/// Names and the hashes of their passwords.
#[derive(Debug)]
pub(super) struct Users(BTreeMap<String, SecretString>);

const MIN_COST: u32 = 4;

/// What `htpasswd` and others use unless told otherwise, and the README too.
const DEFAULT_COST: u32 = 10;

/// The most that a comparison for a user that there is not costs: about a second.
const MAX_STAND_IN_COST: u32 = 14;

/// What a password is compared with where there is no such user, behind the cost.
const DUMMY_SALT_AND_HASH: &str = "zMiIyLBKx3lVnyPVaHBIQOrepLyK1vQsuBLFjAC99yZBmbhIubbvG";

impl Users {
    /// Reads the section.
    pub(super) fn read(users: BTreeMap<String, Secret>, report: &mut Findings) -> Self {
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
pub(crate) struct Credentials {
    user: Vec<u8>,
    password: SecretBox<Vec<u8>>,
}

impl Credentials {
    /// Reads the value of the header `Authorization`; `None` if that is not a name and a password.
    pub(crate) fn from_header(value: &[u8]) -> Option<Self> {
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

/// Whether somebody may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginVerdict {
    Right,
    Wrong,
    /// Too many of the same network wait for their password to be compared.
    Busy,
}

/// The client of a connection, as far as its passwords tell about it.
#[derive(Debug)]
pub(crate) struct Guesser {
    /// An address of IPv4, or 48 bits of IPv6, which is what a site has.
    network: IpAddr,
    is_suspect: AtomicBool,
}

impl Guesser {
    pub(crate) fn new(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80)),
            address => address,
        };
        Self { network, is_suspect: AtomicBool::new(false) }
    }
}

/// Compares passwords, one at a time because it is slow on purpose, and remembers those that were right.
///
/// Anyone can keep many guesses waiting. So networks take turns, in each network connections do, and those that have
/// guessed wrong before take one of these turns among them. A guess whose client goes waits no longer; one that is being
/// compared is compared to the end, since the client of a right password asks again.
pub(super) struct Authenticator {
    line: Line,
    networks: Mutex<HashMap<IpAddr, Arc<Network>>>,
    /// Passwords that were right, under a code that only this process can make of them.
    right: Arc<Mutex<HashSet<Code>>>,
    key: hmac::Key,
}

/// How many right passwords are remembered.
const MAX_RIGHT: usize = 1000;

/// How many passwords of one network wait to be compared. With more, each would wait for longer than its client does.
const MAX_WAITING: usize = 100;

/// How many networks are known at once.
const MAX_NETWORKS: usize = 1000;

#[derive(Default)]
struct Network {
    line: Line,
    is_suspect: AtomicBool,
}

/// A queue in which one has its turn. Suspects wait for each other first, and with the others one at a time.
#[derive(Default)]
struct Line {
    suspects: Arc<AsyncMutex<()>>,
    all: Arc<AsyncMutex<()>>,
}

/// It is over when this is dropped.
type Turn = (Option<OwnedMutexGuard<()>>, OwnedMutexGuard<()>);

impl Line {
    async fn turn(&self, is_suspect: &AtomicBool) -> Turn {
        let is_suspect = is_suspect.load(Relaxed);
        let suspect = if is_suspect { Some(Arc::clone(&self.suspects).lock_owned().await) } else { None };
        (suspect, Arc::clone(&self.all).lock_owned().await)
    }
}

type Code = [u8; 32];

impl Authenticator {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())
            .expect("there are random numbers, or no TLS connection could be made either");
        Self { line: Line::default(), networks: Mutex::default(), right: Arc::default(), key }
    }

    /// Whether there is this user and the password is theirs.
    pub(super) async fn judge(&self, users: &Users, credentials: Credentials, guesser: &Arc<Guesser>) -> LoginVerdict {
        let Credentials { user, password } = credentials;
        let known = str::from_utf8(&user).ok().and_then(|user| users.0.get(user));
        let hash = known.cloned().unwrap_or_else(|| self.stand_in(users, &user));
        let code = self.code(&[&user, hash.expose_secret().as_bytes(), password.expose_secret()]);
        if lock(&self.right).contains(&code) {
            return LoginVerdict::Right;
        }
        let network = self.network(guesser.network);
        // Each that waits has a copy, and so has the map.
        if Arc::strong_count(&network) - 1 > MAX_WAITING {
            return LoginVerdict::Busy;
        }
        let turn_in_network = network.line.turn(&guesser.is_suspect).await;
        let turn = self.line.turn(&network.is_suspect).await;
        // The same may have been compared while this one waited.
        if lock(&self.right).contains(&code) {
            return LoginVerdict::Right;
        }
        let (is_user, guesser, right) = (known.is_some(), Arc::clone(guesser), Arc::clone(&self.right));
        let compared = spawn_blocking(move || {
            let _turns = (turn_in_network, turn);
            // In this order, since the time tells whether it was compared.
            if bcrypt::verify(password.expose_secret(), hash.expose_secret()).unwrap_or(false) && is_user {
                let mut right = lock(&right);
                if right.len() >= MAX_RIGHT {
                    right.clear();
                }
                right.insert(code);
                return LoginVerdict::Right;
            }
            guesser.is_suspect.store(true, Relaxed);
            network.is_suspect.store(true, Relaxed);
            LoginVerdict::Wrong
        });
        compared.await.unwrap_or(LoginVerdict::Wrong)
    }

    /// Where guesses of a network wait. Of too many networks, those are forgotten of which none waits.
    fn network(&self, network: IpAddr) -> Arc<Network> {
        let mut networks = lock(&self.networks);
        if networks.len() >= MAX_NETWORKS && !networks.contains_key(&network) {
            networks.retain(|_, network| Arc::strong_count(network) > 1);
        }
        Arc::clone(networks.entry(network).or_default())
    }

    /// What the password of a user that there is not is compared with. It costs what the hash of some user costs, for
    /// each name always the same, so the time says nothing of whether there is a user of the name. The dearest are left
    /// out: those who know no name could make all others wait for them.
    fn stand_in(&self, users: &Users, user: &[u8]) -> SecretString {
        let cost = |hash: &SecretString| {
            HashParts::from_str(hash.expose_secret()).map_or(DEFAULT_COST, |parts| parts.get_cost())
        };
        let costs: Vec<_> = users.0.values().map(|hash| cost(hash).min(MAX_STAND_IN_COST)).collect();
        let pick = u32::from_be_bytes(self.code(&[user]).first_chunk().copied().unwrap_or_default());
        let cost = costs.get(pick as usize % costs.len().max(1)).copied().unwrap_or(DEFAULT_COST);
        format!("$2y${cost:02}${DUMMY_SALT_AND_HASH}").into()
    }

    fn code(&self, parts: &[&[u8]]) -> Code {
        let mut code = hmac::Context::with_key(&self.key);
        for part in parts {
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        let mut bytes = Code::default();
        bytes.copy_from_slice(code.sign().as_ref());
        bytes
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use tokio::{
        spawn,
        task::{JoinHandle, yield_now},
        time::sleep,
    };

    use super::*;

    fn users(passwords: &[(&str, &str)]) -> Users {
        let hash = |password: &str| bcrypt::hash(password, MIN_COST).unwrap().into();
        Users(passwords.iter().map(|(user, password)| ((*user).to_owned(), hash(password))).collect())
    }

    fn says(user: &str, password: &str) -> Credentials {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Credentials::from_header(format!("Basic {encoded}").as_bytes()).unwrap()
    }

    fn guesser(address: &str) -> Arc<Guesser> {
        Arc::new(Guesser::new(address.parse().unwrap()))
    }

    async fn accepts(authenticator: &Authenticator, users: &Users, user: &str, password: &str) -> bool {
        authenticator.judge(users, says(user, password), &guesser("192.0.2.1")).await == LoginVerdict::Right
    }

    /// Of some users, with hashes of these costs.
    fn users_of_costs(costs: &[u32]) -> Users {
        let hash = |cost: &u32| format!("$2y${cost:02}${DUMMY_SALT_AND_HASH}").into();
        Users(costs.iter().enumerate().map(|(number, cost)| (number.to_string(), hash(cost))).collect())
    }

    /// Has this guess judged, and counts how many were before it.
    fn guess(
        (authenticator, users): &(Arc<Authenticator>, Arc<Users>),
        (user, password): (&str, &str),
        guesser: &Arc<Guesser>,
        judged: &Arc<AtomicUsize>,
    ) -> JoinHandle<(LoginVerdict, usize)> {
        let (authenticator, users) = (Arc::clone(authenticator), Arc::clone(users));
        let (credentials, guesser, judged) = (says(user, password), Arc::clone(guesser), Arc::clone(judged));
        spawn(async move {
            let verdict = authenticator.judge(&users, credentials, &guesser).await;
            (verdict, judged.fetch_add(1, Relaxed))
        })
    }

    fn alice() -> (Arc<Authenticator>, Arc<Users>) {
        (Arc::new(Authenticator::new()), Arc::new(users(&[("alice", "right")])))
    }

    #[tokio::test]
    async fn the_dummy_hash_for_unknown_users_admits_no_one() {
        let dummy = format!("$2y$10${DUMMY_SALT_AND_HASH}");
        assert!(check_hash(&dummy).is_ok() && bcrypt::verify("a password of nobody", &dummy).unwrap());
        let (users, authenticator) = (users(&[("alice", "right"), ("carol", "a:colon")]), Authenticator::new());
        // The second time it is remembered.
        for _ in 0..2 {
            for (user, password, expected) in [
                ("alice", "right", true),
                ("carol", "a:colon", true),
                ("alice", "wrong", false),
                ("no one", "a password of nobody", false),
                ("", "a password of nobody", false),
            ] {
                assert_eq!(accepts(&authenticator, &users, user, password).await, expected, "{user}");
            }
        }
    }

    #[tokio::test]
    async fn a_user_that_there_is_not_costs_what_some_user_costs_and_no_name_costs_now_this_and_now_that() {
        let authenticator = Authenticator::new();
        for (costs, expected) in [
            (&[][..], &[DEFAULT_COST][..]),
            (&[4], &[4]),
            (&[12], &[12]),
            (&[10, 12], &[10, 12]),
            (&[31], &[MAX_STAND_IN_COST]),
            (&[5, 18], &[5, MAX_STAND_IN_COST]),
        ] {
            let users = users_of_costs(costs);
            let cost = |name: usize| {
                let hash = authenticator.stand_in(&users, name.to_string().as_bytes());
                assert!(check_hash(hash.expose_secret()).is_ok());
                HashParts::from_str(hash.expose_secret()).unwrap().get_cost()
            };
            let found: std::collections::BTreeSet<_> = (0..100).map(cost).collect();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{costs:?}");
            assert!((0..100).all(|name| cost(name) == cost(name)));
        }
    }

    #[tokio::test]
    async fn who_guesses_pushes_no_right_password_out_of_the_memory() {
        let (users, authenticator) = (users(&[("alice", "right")]), Authenticator::new());
        let hash = users.0["alice"].expose_secret().as_bytes();
        assert!(accepts(&authenticator, &users, "alice", "right").await);
        for number in 0..20 {
            assert!(!accepts(&authenticator, &users, "alice", &number.to_string()).await);
        }
        // Nothing is under another name, hash or password.
        for (user, hash, password, is_known) in [
            ("alice", hash, "right", true),
            ("alice", hash, "1", false),
            ("bob", hash, "right", false),
            ("alice", b"", "right", false),
            ("alicer", hash, "ight", false),
        ] {
            let code = authenticator.code(&[user.as_bytes(), hash, password.as_bytes()]);
            assert_eq!(lock(&authenticator.right).contains(&code), is_known, "{user} {password}");
        }
    }

    #[tokio::test]
    async fn right_passwords_are_remembered_in_a_bounded_number() {
        let (users, authenticator) = (users(&[("alice", "right")]), Authenticator::new());
        lock(&authenticator.right).extend((0..MAX_RIGHT).map(|number| authenticator.code(&[&number.to_be_bytes()])));
        assert!(accepts(&authenticator, &users, "alice", "right").await);
        assert_eq!(lock(&authenticator.right).len(), 1);
    }

    #[tokio::test]
    async fn a_password_of_which_the_client_has_gone_is_compared_to_the_end() {
        let (users, authenticator) = (users(&[("alice", "right")]), Authenticator::new());
        {
            let mut asked = std::pin::pin!(accepts(&authenticator, &users, "alice", "right"));
            assert!(futures_util::poll!(&mut asked).is_pending());
        }
        while lock(&authenticator.right).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let mut again = std::pin::pin!(accepts(&authenticator, &users, "alice", "right"));
        assert_eq!(futures_util::poll!(&mut again), std::task::Poll::Ready(true));
    }

    #[tokio::test]
    async fn suspects_wait_with_the_others_one_at_a_time() {
        let (line, turns) = (Arc::new(Line::default()), Arc::new(Mutex::new(Vec::new())));
        let first = line.turn(&AtomicBool::new(false)).await;
        let mut waiting = Vec::new();
        for (name, is_suspect) in
            [("bad 1", true), ("bad 2", true), ("bad 3", true), ("good 1", false), ("good 2", false)]
        {
            let (line, turns) = (Arc::clone(&line), Arc::clone(&turns));
            waiting.push(spawn(async move {
                let _turn = line.turn(&AtomicBool::new(is_suspect)).await;
                lock(&turns).push(name);
                yield_now().await;
            }));
            yield_now().await;
        }
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*lock(&turns), ["bad 1", "good 1", "good 2", "bad 2", "bad 3"]);
    }

    #[tokio::test]
    async fn a_guess_whose_client_has_gone_waits_no_longer() {
        let (authenticator, users) = alice();
        let turn = authenticator.line.turn(&AtomicBool::new(false)).await;
        let judged = Arc::default();
        let gone = guess(&(Arc::clone(&authenticator), users), ("alice", "right"), &guesser("192.0.2.1"), &judged);
        yield_now().await;
        assert_eq!(Arc::strong_count(&authenticator.network(guesser("192.0.2.1").network)), 3);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(turn);
        assert_eq!(Arc::strong_count(&authenticator.network(guesser("192.0.2.1").network)), 2);
        assert!(lock(&authenticator.right).is_empty());
    }

    /// How many guesses come before a right password that is new, where as many wait as can.
    async fn guesses_before(client: &str, mut guesser_of: impl FnMut(usize) -> Arc<Guesser>, guesses: usize) -> usize {
        let server = alice();
        let judged = Arc::default();
        // All of them wait before the first is compared.
        let turn = server.0.line.turn(&AtomicBool::new(false)).await;
        let mut waiting = Vec::new();
        for number in 0..guesses {
            waiting.push(guess(&server, ("alice", &number.to_string()), &guesser_of(number), &judged));
            yield_now().await;
        }
        let right = guess(&server, ("alice", "right"), &guesser(client), &judged);
        yield_now().await;
        drop(turn);
        let (verdict, before) = right.await.unwrap();
        assert_eq!(verdict, LoginVerdict::Right);
        for one in waiting {
            assert_eq!(one.await.unwrap().0, LoginVerdict::Wrong);
        }
        before
    }

    #[tokio::test]
    async fn those_who_guess_once_on_each_connection_keep_no_other_network_out() {
        let elsewhere = |_| guesser("198.51.100.1");
        // One of them is in line already, and the last verdict may be counted late.
        assert!(guesses_before("192.0.2.1", elsewhere, MAX_WAITING).await <= 3);
        // Every guess from another 64 bits of a network of 48.
        let many = |guess| guesser(&format!("2001:db8:0:{guess:x}::1"));
        assert!(guesses_before("2001:db8:1::1", many, MAX_WAITING).await <= 3);
        assert!(guesses_before("192.0.2.1", many, MAX_WAITING).await <= 3);
    }

    #[tokio::test]
    async fn in_the_network_of_guessers_a_right_password_waits_for_its_turn() {
        let others = |_| guesser("192.0.2.1");
        assert!(guesses_before("192.0.2.1", others, 50).await >= 50 - 1);
        let bad = guesser("192.0.2.1");
        bad.is_suspect.store(true, Relaxed);
        assert!(guesses_before("192.0.2.1", |_| Arc::clone(&bad), 50).await <= 3);
    }

    #[tokio::test]
    async fn guesses_of_a_network_wait_in_a_bounded_number() {
        let server = alice();
        let judged = Arc::default();
        let turn = server.0.line.turn(&AtomicBool::new(false)).await;
        let mut waiting = Vec::new();
        for number in 0..MAX_WAITING {
            waiting.push(guess(&server, ("alice", &number.to_string()), &guesser("192.0.2.1"), &judged));
            yield_now().await;
        }
        let one_more = guess(&server, ("alice", "right"), &guesser("192.0.2.1"), &judged);
        assert_eq!(one_more.await.unwrap().0, LoginVerdict::Busy);
        waiting.iter().for_each(JoinHandle::abort);
        drop(turn);
        let elsewhere = guess(&server, ("alice", "right"), &guesser("192.0.2.2"), &judged);
        assert_eq!(elsewhere.await.unwrap().0, LoginVerdict::Right);
    }

    #[test]
    fn networks_are_known_in_a_bounded_number_and_those_that_wait_stay() {
        let authenticator = Authenticator::new();
        let network = |number: u32| authenticator.network(Guesser::new(IpAddr::from(number.to_be_bytes())).network);
        let waits = network(0);
        for number in 0..2500 {
            network(number);
            assert!(lock(&authenticator.networks).len() <= MAX_NETWORKS);
        }
        assert!(Arc::ptr_eq(&waits, &network(0)));
        let [one, same, another] = ["2001:db8::1", "2001:db8::ffff:0:1", "2001:db8:1::1"].map(guesser);
        assert!(one.network == same.network && one.network != another.network);
        assert_eq!(guesser("::ffff:192.0.2.1").network, guesser("192.0.2.1").network);
    }
}
