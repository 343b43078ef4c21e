'use strict';
// Loaded before each script: the names of the tests live on loopback.

const dns = require('node:dns');

const lookup = dns.lookup;
dns.lookup = (host, options, done) => lookup(host === 'a.test' ? '127.0.0.1' : host, options, done);
