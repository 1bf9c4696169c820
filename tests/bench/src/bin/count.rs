//! A number of requests through one layer, for callgrind: `count CASE REQUESTS`. Two runs with
//! different numbers say what one request costs; tests/bench/instructions does that.

use koorde_bench::Case;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (case, requests) = (args.next(), args.next());
    let case = Case::ALL
        .into_iter()
        .find(|c| Some(c.name()) == case.as_deref());
    let requests = requests.and_then(|requests| requests.parse().ok());
    match (case, requests) {
        (Some(case), Some(requests)) => case.run(requests, || ()).await,
        _ => eprintln!(
            "count CASE REQUESTS; cases: {:?}",
            Case::ALL.map(Case::name)
        ),
    }
}
