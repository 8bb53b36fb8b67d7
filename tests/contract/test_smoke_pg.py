from datetime import timedelta
from uuid import uuid4

from shared.model import *
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.postgres.sweeps import PostgresSweeps


def test_all(pool):
    reg=PostgresRegistry(pool); q=PostgresQueue(pool); st=PostgresConfigStore(pool); rd=PostgresConfigReader(pool); j=PostgresJournal(pool); sw=PostgresSweeps(pool)
    r=reg.put(RepoId("r1"), Registration("one", SourceName("/x"), (BranchName("main"),BranchName("release/1.0"))), expected=None)
    assert reg.find("one")==r
    e=Event("git.push", updates=(RefUpdate("main","0"*40,"a"*40),))
    d=q.request(Delivery(uuid4(), Decision.REQUESTED, e), "r1", ["main"])
    assert d.requests=={"main":2}
    c=q.claim("r1","main",uuid4(),Trigger.WEBHOOK)
    assert isinstance(c,Claim), c
    assert q.claim("r1","main",uuid4(),Trigger.WEBHOOK).reason=="busy"
    assert q.renew(c)==2
    assert st.stored(c)=={}
    s=st.replace(c,Judgement("a"*40,"b"*40,"rs",Report()),Change((Document("x.yaml","c"*40,{"a":1.0}),),()),serve="a"*40)
    assert s.written==1 and s.changed and not s.more
    print(st.ended(c.sync_id), s)
    assert st.ended(c.sync_id)==s
    assert rd.item("r1","main","x.yaml")[1].config==b'{"a": 1.0}'
    assert rd.item("r1","main","x.yaml",known=[s.generation])[1].config==b''
    assert len(rd.listing("r1","main").items)==1
    assert len(rd.page("r1","main","","",10).items)==1
    print(reg.names())
    c2=q.claim_due(uuid4()); assert c2.branch=="release/1.0"
    q.settle(c2, Failed(Exception.__new__(__import__("shared.errors").errors.SourceFailed)) if 0 else Deferred(DeferReason.BUDGET,"x"))
    c2=q.claim_due(uuid4())
    from shared.errors import SourceFailed
    q.settle(c2, Failed(SourceFailed("nope")))
    assert q.claim_due(uuid4()) is None
    q.pause_source("/x", SourceFailed("nope")); q.resume_source("/x")
    c2=q.claim_due(uuid4()); assert c2
    print(q.status("r1"))
    print(j.deliveries("r1",5), j.syncs("r1",None,5), j.overview(), j.prune(timedelta(days=1)))
    assert sw.begin(uuid4(),"timer",timedelta(seconds=5)); assert not sw.begin(uuid4(),"timer",timedelta(seconds=5))
    print(sw.age(), sw.claim_head_checks(5), sw.claim_head_checks(5)); sw.moved("r1",{"main":"d"*40}); sw.ask_due_deep_syncs(); print(sw.judged("r1"))
    q.ask("r1",["main"],deep=True)
    x=st.stored(q.claim("r1","main",uuid4(),Trigger.MANUAL),verify=True); print(x); assert x["x.yaml"].is_intact
    r2=reg.put("r1", Registration("one2", SourceName("/x"), (BranchName("main"),)), expected=1)
    print(r2); reg.remove("r1",expected=2); assert reg.list()==[]
