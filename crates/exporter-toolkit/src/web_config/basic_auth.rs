//! Users, and whether a password is theirs.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    str::FromStr as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use tokio::{spawn, sync::oneshot, task::spawn_blocking};

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
    /// Too many wait for their password to be compared.
    Busy,
}

/// The client of a connection, as far as its passwords tell about it.
#[derive(Debug, Default)]
pub(crate) struct Guesser {
    address: Option<IpAddr>,
    wrong: AtomicU32,
}

impl Guesser {
    pub(crate) fn new(address: IpAddr) -> Self {
        // Who has one address of IPv6 has 64 bits of them.
        let address = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        };
        Self { address: Some(address), wrong: AtomicU32::new(0) }
    }
}

/// Compares passwords, one at a time because it is slow on purpose, and remembers what came of it.
///
/// Anyone can keep many guesses waiting. Those who guess and guessed wrong least come first, so a right password that is
/// not remembered yet hardly waits for others; every second turn is of the one that waits longest, so none waits for
/// ever. Behind the address of a guesser it is one of many, and only chance brings it to its turn.
///
/// A password whose client has gone is compared only if no wrong guess came from its address: it was right perhaps, and
/// the client asks again. Otherwise those who guess and go would fill the queue.
pub(super) struct Authenticator {
    shared: Arc<Mutex<GuessQueue>>,
    /// Results are kept under a code that only this process can make of a password.
    key: hmac::Key,
}

/// How many results are remembered.
const MAX_RESULTS: usize = 100;

/// How many passwords wait to be compared. With more, each would wait for longer than its client does.
const MAX_WAITING: usize = 100;

/// Of how many addresses, and of how many networks, it is known how often they guessed wrong.
const MAX_ADDRESSES: usize = 1000;

#[derive(Default)]
struct GuessQueue {
    results: KnownResults,
    /// By how long they wait.
    waiting: Vec<WaitingGuess>,
    /// Whether somebody compares them.
    is_comparing: bool,
    turns: u64,
    wrong: GuessCounts,
}

/// Guesses, counted by where they come from.
#[derive(Default)]
struct GuessCounts {
    /// An address of IPv6 is a network of 64 bits. A site often has one of 48 bits, which is 65,536 of them.
    of_networks: HashMap<IpAddr, u32>,
    of_addresses: HashMap<IpAddr, u32>,
}

/// How much there is against a guess: guesses from its network and from its address, wrong ones and those that wait, and
/// wrong ones on its connection.
type Rank = (u32, u32, u32);

/// A password that waits to be compared, and those who wait for the result.
struct WaitingGuess {
    code: Code,
    password: SecretBox<Vec<u8>>,
    hash: SecretString,
    guesser: Arc<Guesser>,
    results: Vec<oneshot::Sender<bool>>,
}

/// Whether each was right, and when it was put here.
#[derive(Default)]
struct KnownResults {
    of: HashMap<Code, (bool, u64)>,
    put: u64,
}

type Code = [u8; 32];

impl Authenticator {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())
            .expect("there are random numbers, or no TLS connection could be made either");
        Self { shared: Arc::default(), key }
    }

    /// Whether there is this user and the password is theirs.
    pub(super) async fn judge(&self, users: &Users, credentials: Credentials, guesser: &Arc<Guesser>) -> LoginVerdict {
        let Credentials { user, password } = credentials;
        let known = str::from_utf8(&user).ok().and_then(|user| users.0.get(user));
        let hash = known.cloned().unwrap_or_else(|| self.stand_in(users, &user));
        let code = self.code(&[&user, hash.expose_secret().as_bytes(), password.expose_secret()]);
        let (sender, result) = oneshot::channel();
        {
            let mut shared = lock(&self.shared);
            if let Some(right) = shared.results.get(&code) {
                return LoginVerdict::of(right && known.is_some());
            }
            shared.wait(WaitingGuess { code, password, hash, guesser: Arc::clone(guesser), results: vec![sender] });
            if !std::mem::replace(&mut shared.is_comparing, true) {
                // Its thread would end it if it were part of this, which ends when the client goes.
                spawn(compare(Arc::clone(&self.shared)));
            }
        }
        match result.await {
            Ok(right) => LoginVerdict::of(right && known.is_some()),
            Err(_) => LoginVerdict::Busy,
        }
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

impl LoginVerdict {
    fn of(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// Compares all that wait. One thread at a time is busy with it.
async fn compare(shared: Arc<Mutex<GuessQueue>>) {
    loop {
        let next = {
            let mut shared = lock(&shared);
            let next = shared.take_next();
            shared.is_comparing = next.is_some();
            next
        };
        let Some(WaitingGuess { code, password, hash, guesser, results }) = next else { return };
        let compared =
            spawn_blocking(move || bcrypt::verify(password.expose_secret(), hash.expose_secret()).unwrap_or(false));
        let right = compared.await.unwrap_or(false);
        {
            let mut shared = lock(&shared);
            shared.results.put(code, right);
            if !right {
                shared.blame(&guesser);
            }
        }
        for result in results {
            // The client may have gone.
            let _ = result.send(right);
        }
    }
}

impl GuessQueue {
    /// Lets one more wait. Of too many, one of the worst goes, and chance says which: were it the latest, guessers at its
    /// address would keep it out.
    fn wait(&mut self, mut new: WaitingGuess) {
        if let Some(same) = self.waiting.iter_mut().find(|waiting| waiting.code == new.code) {
            same.results.retain(|result| !result.is_closed());
            same.results.append(&mut new.results);
            return;
        }
        self.waiting.push(new);
        if self.waiting.len() > MAX_WAITING {
            self.drop_those_of_gone_guessers();
        }
        if self.waiting.len() > MAX_WAITING {
            let ranks = self.ranks();
            let worst = ranks.iter().max();
            let worst: Vec<_> = (0..ranks.len()).filter(|index| Some(&ranks[*index]) == worst).collect();
            self.waiting.remove(worst[fastrand::usize(..worst.len())]);
        }
    }

    fn take_next(&mut self) -> Option<WaitingGuess> {
        self.drop_those_of_gone_guessers();
        self.turns += 1;
        let next = if self.turns.is_multiple_of(2) {
            0
        } else {
            let ranks = self.ranks();
            // The latest of these, whose client will wait for longest.
            (0..ranks.len()).rev().min_by_key(|index| ranks[*index])?
        };
        (next < self.waiting.len()).then(|| self.waiting.remove(next))
    }

    fn drop_those_of_gone_guessers(&mut self) {
        let wrong = &self.wrong;
        self.waiting.retain(|WaitingGuess { guesser, results, .. }| {
            let no_wrong_guess = guesser.wrong.load(Relaxed) == 0 && wrong.of(guesser).1 == 0;
            no_wrong_guess || results.iter().any(|result| !result.is_closed())
        });
    }

    /// Of each that waits. Those that wait count like wrong ones, or those who guess once on each of many connections
    /// would be as good as any client until their guesses were compared.
    fn ranks(&self) -> Vec<Rank> {
        let mut waiting = GuessCounts::default();
        for WaitingGuess { guesser, .. } in &self.waiting {
            waiting.add(guesser);
        }
        let rank = |WaitingGuess { guesser, .. }: &WaitingGuess| {
            let ((of_network, of_address), more) = (self.wrong.of(guesser), waiting.of(guesser));
            (of_network.saturating_add(more.0), of_address.saturating_add(more.1), guesser.wrong.load(Relaxed))
        };
        self.waiting.iter().map(rank).collect()
    }

    fn blame(&mut self, guesser: &Guesser) {
        guesser.wrong.fetch_add(1, Relaxed);
        self.wrong.add(guesser);
    }
}

impl GuessCounts {
    /// Counts one more. Those with the least make room, so that many addresses do not have those with many forgotten.
    fn add(&mut self, guesser: &Guesser) {
        let Some(address) = guesser.address else { return };
        for (counts, of) in [(&mut self.of_networks, network(address)), (&mut self.of_addresses, address)] {
            if counts.len() >= MAX_ADDRESSES && !counts.contains_key(&of) {
                let least = counts.iter().min_by_key(|(_, count)| **count).map(|(least, _)| *least);
                least.map(|least| counts.remove(&least));
            }
            let count = counts.entry(of).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Those from the network and from the address.
    fn of(&self, guesser: &Guesser) -> (u32, u32) {
        let Some(address) = guesser.address else { return (0, 0) };
        let count = |counts: &HashMap<IpAddr, u32>, of| counts.get(&of).copied().unwrap_or(0);
        (count(&self.of_networks, network(address)), count(&self.of_addresses, address))
    }
}

/// What a site has in IPv6. In IPv4 it is the address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80)),
        IpAddr::V4(_) => address,
    }
}

impl KnownResults {
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

    fn waiting(number: u64, guesser: &Arc<Guesser>) -> WaitingGuess {
        let mut code = Code::default();
        code[..8].copy_from_slice(&number.to_be_bytes());
        WaitingGuess {
            code,
            password: SecretBox::new(Box::default()),
            hash: SecretString::from(""),
            guesser: Arc::clone(guesser),
            results: Vec::new(),
        }
    }

    /// Lets one wait, and its client with it.
    fn wait(shared: &mut GuessQueue, number: u64, guesser: &Arc<Guesser>) -> oneshot::Receiver<bool> {
        let (sender, client) = oneshot::channel();
        shared.wait(WaitingGuess { results: vec![sender], ..waiting(number, guesser) });
        client
    }

    fn waits(shared: &GuessQueue, guess: u64) -> bool {
        shared.waiting.iter().any(|waiting| number(waiting) == guess)
    }

    fn number(waiting: &WaitingGuess) -> u64 {
        u64::from_be_bytes(*waiting.code.first_chunk().unwrap())
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
        for number in 0..2 * MAX_RESULTS {
            let code = authenticator.code(&[b"alice", hash, number.to_string().as_bytes()]);
            lock(&authenticator.shared).results.put(code, false);
        }
        let shared = lock(&authenticator.shared);
        assert_eq!(shared.results.of.len(), MAX_RESULTS);
        assert_eq!(shared.results.get(&authenticator.code(&[b"alice", hash, b"right"])), Some(true));
        // The latest of the guesses are there, and nothing is under another name or hash.
        let last = (2 * MAX_RESULTS - 1).to_string();
        assert_eq!(shared.results.get(&authenticator.code(&[b"alice", hash, last.as_bytes()])), Some(false));
        for (user, hash, password) in [("bob", hash, "right"), ("alice", b"", "right"), ("alicer", hash, "ight")] {
            let code = authenticator.code(&[user.as_bytes(), hash, password.as_bytes()]);
            assert_eq!(shared.results.get(&code), None);
        }
    }

    #[tokio::test]
    async fn a_password_of_which_the_client_has_gone_is_compared_all_the_same() {
        let (users, authenticator) = (users(&[("alice", "right")]), Authenticator::new());
        {
            let mut asked = std::pin::pin!(accepts(&authenticator, &users, "alice", "right"));
            assert!(futures_util::poll!(&mut asked).is_pending());
        }
        while lock(&authenticator.shared).is_comparing {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(lock(&authenticator.shared).results.of.values().all(|(right, _)| *right));
        let mut again = std::pin::pin!(accepts(&authenticator, &users, "alice", "right"));
        assert_eq!(futures_util::poll!(&mut again), std::task::Poll::Ready(true));
    }

    #[test]
    fn one_turn_is_of_who_guessed_wrong_least_and_the_next_of_who_waits_longest() {
        let mut shared = GuessQueue::default();
        let (near, far) = (guesser("192.0.2.1"), guesser("198.51.100.1"));
        let fresh = guesser("192.0.2.1");
        shared.blame(&near);
        let guesses = [(1, &near), (2, &near), (3, &fresh), (4, &far), (5, &near), (6, &near)];
        let _clients = guesses.map(|(number, guesser)| wait(&mut shared, number, guesser));
        let order: Vec<_> = std::iter::from_fn(|| shared.take_next()).map(|waiting| number(&waiting)).collect();
        // That of another address, the longest, that of another connection, the longest, and of those left the latest.
        assert_eq!(order, [4, 1, 3, 2, 6, 5]);
    }

    #[test]
    fn guesses_wait_in_a_bounded_number_and_the_same_one_once() {
        let mut shared = GuessQueue::default();
        let (bad, good) = (guesser("2001:db8::1"), guesser("2001:db8:1::1"));
        let mut clients = Vec::new();
        for number in 0..2 * MAX_WAITING as u64 {
            clients.push(wait(&mut shared, number, &bad));
            clients.push(wait(&mut shared, number, &bad));
        }
        assert_eq!(shared.waiting.len(), MAX_WAITING);
        for number in 0..10 {
            clients.push(wait(&mut shared, u64::MAX - number, &good));
        }
        assert_eq!(shared.waiting.len(), MAX_WAITING);
        assert_eq!(shared.waiting.iter().filter(|waiting| Arc::ptr_eq(&waiting.guesser, &good)).count(), 10);
        // Those whose clients gave up and ask again hold no memory.
        for _ in 0..1000 {
            drop(wait(&mut shared, u64::MAX, &good));
        }
        assert!(shared.waiting.iter().all(|waiting| waiting.results.len() <= 2));
    }

    /// Whether a client whose password is new gets its turn while guesses of others, each on a connection of its own, come
    /// ten times as fast as one is compared. It gives up after a hundred comparisons and asks again, as often as this.
    fn gets_a_turn(client: &str, tries: u32, mut guesser_of: impl FnMut(u64) -> Arc<Guesser>, they_stay: bool) -> bool {
        const RIGHT: u64 = u64::MAX;
        let (mut shared, mut clients) = (GuessQueue::default(), Vec::new());
        let mut guesses = 0;
        let mut guess = |shared: &mut GuessQueue, times| {
            for _ in 0..times {
                guesses += 1;
                if !they_stay {
                    clients.clear();
                }
                clients.push(wait(shared, guesses, &guesser_of(guesses)));
            }
            assert!(shared.waiting.len() <= MAX_WAITING);
        };
        let compare_one = |shared: &mut GuessQueue| {
            let next = shared.take_next().unwrap();
            if number(&next) != RIGHT {
                shared.blame(&next.guesser);
            }
            number(&next) == RIGHT
        };
        for _ in 0..MAX_WAITING / 3 {
            guess(&mut shared, 10);
            compare_one(&mut shared);
        }
        (0..tries).any(|_| {
            guess(&mut shared, 5);
            let _client = wait(&mut shared, RIGHT, &guesser(client));
            guess(&mut shared, 5);
            (0..100).any(|_| {
                let has_turn = compare_one(&mut shared);
                guess(&mut shared, 10);
                has_turn
            })
        })
    }

    #[test]
    fn those_who_guess_once_on_each_connection_keep_no_other_address_out() {
        for they_stay in [false, true] {
            let elsewhere = |_| guesser("198.51.100.1");
            assert!(gets_a_turn("192.0.2.1", 1, elsewhere, they_stay));
            // Every guess from another 64 bits of a network of 48.
            let many = |guess: u64| guesser(&format!("2001:db8:0:{:x}::1", guess % 65_536));
            assert!(gets_a_turn("2001:db8:1::1", 1, many, they_stay));
            assert!(gets_a_turn("192.0.2.1", 1, many, they_stay));
        }
    }

    #[test]
    fn behind_the_address_of_a_guesser_a_right_password_gets_in_eventually() {
        let same = |_| guesser("192.0.2.1");
        // About one try in ten succeeds.
        assert!(gets_a_turn("192.0.2.1", 300, same, true));
        assert!(gets_a_turn("192.0.2.1", 1, same, false));
    }

    #[test]
    fn many_addresses_that_guess_wrong_have_none_forgotten_that_guessed_wrong_often() {
        let (mut shared, bad) = (GuessQueue::default(), guesser("2001:db8::1"));
        shared.blame(&bad);
        shared.blame(&bad);
        for number in 0..2 * MAX_ADDRESSES {
            shared.blame(&guesser(&Ipv6Addr::from_bits((number as u128 + 1) << 80).to_string()));
        }
        assert_eq!(shared.wrong.of(&bad), (2, 2));
        assert_eq!((shared.wrong.of_addresses.len(), shared.wrong.of_networks.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        // Addresses are 64 bits, and networks 48.
        assert_eq!(shared.wrong.of(&guesser("2001:db8::ffff")), (2, 2));
        assert_eq!(shared.wrong.of(&guesser("2001:db8:0:1::1")), (2, 0));
    }

    #[test]
    fn a_guess_whose_client_has_gone_waits_only_where_no_wrong_guess() {
        let (mut shared, bad, good) = (GuessQueue::default(), guesser("198.51.100.1"), guesser("192.0.2.1"));
        drop((wait(&mut shared, 1, &bad), wait(&mut shared, 2, &good)));
        shared.blame(&guesser("198.51.100.1"));
        let _stays = wait(&mut shared, 3, &bad);
        assert_eq!(shared.take_next().map(|next| number(&next)), Some(2));
        assert!(!waits(&shared, 1) && waits(&shared, 3));
    }
}
