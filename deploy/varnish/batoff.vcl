# Batoff Purge in Varnish 6.0 or newer, with varnish-modules (vmod_var, vmod_xkey); tested on Debian 12's 7.1.
#
# What it adds to a configuration:
#   * purges by URL and by tag, hard and soft, from the daemon alone: they come in by a listener of their own;
#   * a guard: an answer whose fetch began before a purge is not stored when it arrives after it;
#   * a fence: without the daemon's word that this node may serve, nothing is served from the cache;
#   * nothing is stored that no purge could name: hosts that no site owns, URLs and hosts that are not in normal form.
# All of it costs a hit about 15 % more CPU (3 to 4 microseconds, of about 23), most of it for the lease (benches/varnish.rs).
#
# How to use it. Varnish gets a second listener, named `batoff`, that only the daemon can reach:
#
#   varnishd -a :6081 -a batoff=/run/batoff-varnish/purge.sock,HTTP,user=batoff,group=batoff,mode=600 …
#
# (or -a batoff=127.0.0.1:6091 where everybody on the machine may purge), and this file is included **behind** the
# rest, as in default.vcl beside it. Yours runs first then, and may rewrite Host and URL: purges are rewritten with it.
# What it must not do is `return` from the subroutines below, or what stands here never runs; `batoff-edge check
# varnish` finds that out. Do not put more than URL and host into vcl_hash: a purge would miss it. Variants belong into
# `Vary`, and all of them go with their URL.
#
# The only lines to change are the paths in batoff_lease, batoff_owned and vcl_backend_response, if [caches.varnish] lease_dir is not the
# default.
#
# How many bytes of Cache-Tag an object may have. Each tag becomes a key that takes up to 13 bytes of Varnish's workspace for
# each of its own, and all of the workspace that is left decides (param.show workspace_backend, http_resp_hdr_len):
#
#   varnishd -p …                                                   bytes of tags, all lines of a response together
#   (as Varnish comes: workspace_backend 96k, headers of 8k)         4,096
#   workspace_backend=384k http_resp_hdr_len=20k http_resp_size=64k  16,384, in one line or several (varnish.service.conf)
#
# An answer with more than fits, or with a tag that breaks the rules (white space inside, over 256 bytes, not UTF-8), is
# stored as one that may have any tag: each purge of any tag of its site takes it. http_resp_size must not be over 64k.

vcl 4.1;

import directors;
import purge;
import std;
import var;
import vtc;
import xkey;

# Only for its key(): a number of 32 bits for any text.
sub vcl_init {
    new batoff_hash = directors.shard();
}

sub vcl_recv {
    # One spelling of a hostname is one object: no capitals, no dot at the end, no port that is a scheme's own.
    if (req.http.Host ~ "[A-Z]|\.(?::[0-9]*)?$|:(?:80|443)?$") {
        set req.http.Host = regsub(regsub(std.tolower(req.http.Host), ":(?:80|443)?$", ""), "\.(:[0-9]+)?$", "\1");
    }
    unset req.http.Batoff-Normal;
    unset req.http.Batoff-Stale;

    if (local.socket == "batoff") {
        call batoff_order;
    }
    if (req.method == "PURGE") {
        return (synth(405, "Purges come from the daemon"));
    }
    # What the visitor has sent, cookies and all, is not shown to whoever made the browser ask (RFC 9110, 9.3.8).
    if (req.method == "TRACE") {
        return (synth(405, "Not allowed"));
    }
    # Varnish would only pass bytes on, and not see what became of a method that changes things; see vcl_deliver.
    if (req.method !~ "^(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|CONNECT|PRI)$") {
        return (pass);
    }
}

# What the daemon asks for. Nothing else comes this way.
sub batoff_order {
    if (req.method != "PURGE") {
        return (synth(405, "This listener takes purges"));
    }
    # From here on, answers to fetches that have begun before are not stored.
    if (req.http.Batoff-Guard) {
        # The daemon's run: what an earlier one has closed and not opened again counts no more.
        if (req.http.Batoff-Run) {
            var.global_set("batoff run", req.http.Batoff-Run);
        }
        var.global_set("batoff:" + req.http.Batoff-Guard, req.http.Batoff-Value);
        return (synth(200, "Guarded"));
    }
    # Tags of one hostname. What may have any tag (`!`, see batoff_tags) goes with each.
    if (req.http.Batoff-Tags) {
        set req.http.Batoff-Host = batoff_hash.key(regsub(req.http.Host, ":.*", ""));
        set req.http.Batoff-Tags = req.http.Batoff-Host + "! "
            + regsuball(req.http.Batoff-Tags, "\S+", req.http.Batoff-Host + "/\0");
        if (req.http.Batoff-Soft) {
            set req.http.Batoff-Count = xkey.softpurge(req.http.Batoff-Tags);
        } else {
            set req.http.Batoff-Count = xkey.purge(req.http.Batoff-Tags);
        }
        return (synth(200, "Purged"));
    }
    # Is this file loaded, and under which state of which daemon was the cache emptied last?
    if (req.http.Batoff-Probe) {
        set req.http.Batoff-Value = var.global_get("batoff mark");
        return (synth(200, "Here"));
    }
    if (req.http.Batoff-Mark) {
        var.global_set("batoff mark", req.http.Batoff-Mark);
        return (synth(200, "Marked"));
    }
    # A URL with all its variants.
    if (req.http.Batoff-Soft) {
        set req.hash_ignore_busy = true;
        return (hash);
    }
    return (purge);
}

sub vcl_hit {
    if (req.method == "PURGE") {
        set req.http.Batoff-Count = purge.soft(0s);
        return (synth(200, "Purged"));
    }
    call batoff_lease;
    # Stored before this file was loaded, or where a subroutine of yours returned before what is above or below.
    if (!obj.http.Batoff-Key) {
        return (pass);
    }
    # It will be fetched behind this request, which does not come through vcl_miss.
    if (obj.ttl <= 0s) {
        set req.http.Batoff-Normal = "yes";
        set req.http.Batoff-Stale = "1";
    }
}

sub vcl_miss {
    if (req.method == "PURGE") {
        set req.http.Batoff-Count = purge.soft(0s);
        return (synth(200, "Purged"));
    }
    # A URL can be written in many ways, and Varnish takes each for another object. A purge names the one in normal form,
    # so any other is fetched and not stored: it could not be found again. That is: characters that have to be escaped,
    # escapes in lower case, escapes of characters that need none, and segments "." and "..". Asked here and not ahead of
    # the lookup: what is stored is in normal form.
    # Most need no closer look.
    if ((req.url !~ "^/[a-zA-Z0-9\-_~/=&]*+(?:\.[a-zA-Z0-9\-_~=&][a-zA-Z0-9\-_~/=&]*+)*+(?:\?[a-zA-Z0-9\-._~/=&]*+)?$"
            && (req.url !~ "^/(?:[a-zA-Z0-9\-._~!$&'()*+,;=:@/\[\]|^]|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]|[0189A-F][0-9A-F]))*(?:\?(?:[a-zA-Z0-9\-._~!$&()*+,;=:@/?\[\]|^`{}]|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]|[0189A-F][0-9A-F]))*)?$"
                || req.url ~ "^[^?]*/\.\.?(?:[/?]|$)"))
        || req.url ~ "^.{7000}"
        || req.http.Host !~ "^(?:[a-z0-9_-]++\.)*+[a-z_][a-z0-9_-]*+(?::[1-9][0-9]{0,4})?$"
        # A header that Connection names goes no further, so the answer does not depend on it as Vary says.
        || req.http.Connection ~ "[^a-zA-Z-]"
            && req.http.Connection !~ "(?i)^[\s,]*(?:(?:close|keep-alive|te|upgrade)[\s,]*)*+$") {
        return (pass);
    }
    call batoff_owned;
    set req.http.Batoff-Normal = "yes";
}

# Nobody could purge a page of a host that no site owns, so it is not stored. The daemon keeps a file for each hostname,
# `*.` in front for all names under one; eight labels deep, what is deeper is not stored either. Asked at a miss alone.
sub batoff_owned {
    set req.http.Batoff-Host = regsub(req.http.Host, ":.*", "");
    if (!std.file_exists("/run/batoff-varnish/lease/sites/" + req.http.Batoff-Host)
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:[^.]*\.(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){2}(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){3}(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){4}(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){5}(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){6}(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){7}(.*)|.*)$", "\1"))
        && !std.file_exists("/run/batoff-varnish/lease/sites/*." + regsub(req.http.Batoff-Host, "^(?:(?:[^.]*\.){8}(.*)|.*)$", "\1"))) {
        unset req.http.Batoff-Host;
        return (pass);
    }
    unset req.http.Batoff-Host;
}

# The daemon keeps a file for each tenth of a second that its lease covers (or `open`, on a node that serves without).
# Asked here, behind the lookup, so that a request that waited for another's fetch is asked after its wait.
# real2integer rounds, so without the half it would look a slot ahead.
sub batoff_lease {
    if (!std.file_exists("/run/batoff-varnish/lease/" + std.real2integer(std.time2real(now, 0.0) * 10.0 - 0.5, 0))
        && !std.file_exists("/run/batoff-varnish/lease/open")) {
        return (pass);
    }
}

sub vcl_synth {
    if (req.method == "PURGE" && local.socket == "batoff") {
        set resp.http.Batoff-VCL = "2";
        set resp.http.Batoff-Count = req.http.Batoff-Count;
        set resp.http.Batoff-Value = req.http.Batoff-Value;
        return (deliver);
    }
}

# The guard, as it was when the fetch began. Compared, not measured: a clock may be set back.
sub vcl_backend_fetch {
    if (bereq.http.Batoff-Normal) {
        var.set("batoff_guard", "since " + var.global_get("batoff:*") + " "
            + var.global_get("batoff:" + regsub(bereq.http.Host, ":.*", "")));
    }
    unset bereq.http.Batoff-Normal;
}

sub vcl_backend_response {
    if (var.get("batoff_guard") != "since " + var.global_get("batoff:*") + " "
        + var.global_get("batoff:" + regsub(bereq.http.Host, ":.*", ""))) {
        # Purged while it was fetched, or nobody noted when it began, or no purge could name it: for its visitor, and for
        # nobody else.
        call batoff_not_stored;
    }
    # From a parent that served it stale: by its age it looks fresh. And while a parent has not confirmed what was purged
    # here last, everything that comes from it may be what was purged ([path] parents; the daemon opens the guard again).
    if (beresp.http.X-Batoff-Stale
        || std.file_exists("/run/batoff-varnish/lease/parents") && !var.global_get("batoff run")
        || var.global_get("batoff:*") == "closed " + var.global_get("batoff run")
        || var.global_get("batoff:" + regsub(bereq.http.Host, ":.*", "")) == "closed " + var.global_get("batoff run")) {
        call batoff_not_stored;
    }
    # May not be served stale, whatever a soft purge or stale-while-revalidate say (RFC 9111, 4.2.4 and 5.2.2).
    std.collect(beresp.http.Cache-Control, ",");
    if (beresp.http.Cache-Control ~ "(?i)(?:^|[,\s])(?:must|proxy)-revalidate(?:[,\s]|$)") {
        set beresp.grace = 0s;
    }
    # What purges find it by: prefixes, hosts and sites by this,
    set beresp.http.Batoff-Key = bereq.http.Host + bereq.url;
    # and tags by a number for the hostname and themselves, because another site's tag of the same name is another tag.
    # Before them stands the number of the URL, for vcl_deliver.
    set beresp.http.xkey = batoff_hash.key(regsub(bereq.http.Host, ":.*", ""));
    if (!beresp.http.Cache-Tag) {
        set beresp.http.xkey = beresp.http.xkey + ":" + batoff_hash.key(beresp.http.Batoff-Key);
    } else {
        call batoff_tags;
    }
    # Nothing is stored that purges do not find.
    if (!beresp.http.Batoff-Key || !beresp.http.xkey) {
        call batoff_not_stored;
    }
}

sub batoff_not_stored {
    set beresp.uncacheable = true;
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.keep = 0s;
}

sub batoff_tags {
    # Varnish leaves lines away for which there is no room, and says so to nobody: looked at before.
    if (vtc.workspace_free(backend) < 72000) {
        if (vtc.workspace_free(backend) < 36000) {
            # Not even that may fit.
            unset beresp.http.xkey;
            return;
        }
        set beresp.http.xkey = beresp.http.xkey + ":" + batoff_hash.key(beresp.http.Batoff-Key) + " " + beresp.http.xkey + "!";
        return;
    }
    std.collect(beresp.http.Cache-Tag, ",");
    # Too much for what is left, or with members that no purge can name: it may have any tag.
    if (beresp.http.Cache-Tag ~ "^.{4097}" && (vtc.workspace_free(backend) < 240000 || beresp.http.Cache-Tag ~ "^.{16385}")
        || beresp.http.Cache-Tag ~ "(?:^|,)[^,]{257}|[^,\s]\s+[^,\s]|[\x01-\x08\x0a-\x1f\x7f]"
        || beresp.http.Cache-Tag ~ "[\x80-\xff]"
            && (beresp.http.Cache-Tag ~ "\xc2[\x80-\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80"
                || beresp.http.Cache-Tag !~ "^(?:[\x01-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*+$")) {
        set beresp.http.xkey = beresp.http.xkey + ":" + batoff_hash.key(beresp.http.Batoff-Key) + " " + beresp.http.xkey + "!";
        return;
    }
    set beresp.http.xkey = beresp.http.xkey + ":" + batoff_hash.key(beresp.http.Batoff-Key) + " "
        + regsuball(beresp.http.Cache-Tag, "[,\s]*([^,\s]+)[,\s]*", beresp.http.xkey + "/\1 ");
}

sub vcl_deliver {
    # A method that may have changed the page, and was not refused, takes what is stored under its URL (RFC 9111, 4.4).
    if (req.method !~ "^(?:GET|HEAD|OPTIONS|PURGE)$" && resp.status >= 200 && resp.status < 400 && resp.http.xkey) {
        set req.http.Batoff-Count = xkey.purge(regsub(resp.http.xkey, " .*", ""));
        unset req.http.Batoff-Count;
    }
    # A node behind this one must not take it for new. What came marked from a parent stays marked.
    if (req.http.Batoff-Stale) {
        set resp.http.X-Batoff-Stale = "1";
    }
    unset resp.http.Batoff-Key;
    unset resp.http.xkey;
    # Remove this line if a cache in front of this one purges by tag too.
    unset resp.http.Cache-Tag;
}
