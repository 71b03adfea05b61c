"""How the page looks, and the script that sorts and filters its tables. Nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root{--ink:#1d2733;--dim:#5b6875;--line:#d5dce3;--soft:#f4f6f8;--page:#fff;
--yes:#17663a;--yes-soft:#e3f3e9;--wait:#7a4d00;--wait-soft:#fdf1d8;--no:#9b1c1c;--no-soft:#fbe5e5;--link:#0b4f8a}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ee;--dim:#9fabb7;--line:#39434e;--soft:#1d242c;--page:#14191f;
--yes:#7fd6a2;--yes-soft:#12331f;--wait:#f0c36d;--wait-soft:#3a2b0c;--no:#f29b9b;--no-soft:#421a1a;--link:#8cc2f2}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,"DejaVu Sans",sans-serif}
main,header,nav,footer{max-width:1280px;margin:0 auto;padding:0 24px}
header{padding-top:28px}
h1{font-size:24px;margin:0 0 4px}
h2{font-size:18px;margin:32px 0 8px;padding-top:8px}
h3{font-size:15px;margin:18px 0 2px}
p{margin:4px 0 10px;max-width:80ch}
a{color:var(--link)}
code,pre,.mono{font:13px/1.45 ui-monospace,"DejaVu Sans Mono",monospace}
.dim{color:var(--dim)}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;padding-top:10px;padding-bottom:10px;font-size:14px}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:14px 0}
dl.facts dt{color:var(--dim)}
dl.facts dd{margin:0;overflow-wrap:anywhere}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.card{border:1px solid var(--line);border-radius:8px;padding:10px 16px;min-width:128px}
.card b{display:block;font-size:26px;line-height:1.2;font-variant-numeric:tabular-nums}
.card.yes{background:var(--yes-soft)}.card.yes b{color:var(--yes)}
.card.wait{background:var(--wait-soft)}.card.wait b{color:var(--wait)}
.card.no{background:var(--no-soft)}.card.no b{color:var(--no)}
ul.attention{margin:10px 0;padding:10px 16px 10px 34px;border-radius:4px}
ul.now{background:var(--no-soft);border-left:4px solid var(--no)}
ul.soon{background:var(--wait-soft);border-left:4px solid var(--wait)}
p.well{background:var(--yes-soft);border-left:4px solid var(--yes);padding:8px 16px;border-radius:4px}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:7px 10px;border-top:1px solid var(--line)}
thead th{border-top:0;background:var(--soft);white-space:nowrap;position:sticky;top:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.nowrap,td code{white-space:nowrap}
td .path{overflow-wrap:break-word;min-width:18ch;max-width:56ch}
thead th.group{text-align:center;border-left:1px solid var(--line);color:var(--dim);font-weight:400}
tbody tr:hover{background:var(--soft)}
th button{all:unset;cursor:pointer;font-weight:600}
th button:hover{text-decoration:underline}
th button:focus-visible{outline:2px solid var(--link);outline-offset:2px}
th[aria-sort=ascending] button::after{content:" \\25B2";font-size:10px}
th[aria-sort=descending] button::after{content:" \\25BC";font-size:10px}
.pill{display:inline-block;padding:1px 9px;border-radius:10px;font-size:13px;font-weight:600;white-space:nowrap}
.pill.yes{background:var(--yes-soft);color:var(--yes)}
.pill.wait{background:var(--wait-soft);color:var(--wait)}
.pill.no{background:var(--no-soft);color:var(--no)}
.pill.none{background:var(--soft);color:var(--dim)}
ul.plain{list-style:none;margin:0;padding:0}
ul.plain li+li{margin-top:5px}
details summary{cursor:pointer;color:var(--link);font-size:13px}
.filter{margin:6px 0 8px;display:flex;gap:10px;align-items:center;font-size:14px}
.filter input{font:inherit;color:inherit;background:var(--page);border:1px solid var(--line);border-radius:6px;
padding:4px 8px;width:min(360px,60vw)}
pre{background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:12px;
overflow-x:auto;margin:6px 0 18px}
footer{color:var(--dim);font-size:13px;padding-top:28px;padding-bottom:36px}
@media print{nav,.filter{display:none}thead th{position:static}.scroll{overflow:visible;border:0}
body{font-size:11px}table{font-size:10px}tr{break-inside:avoid}}
"""

# A table is sorted by its cells' data-v, or their text; a second click turns the order round. #sort=TABLE,COLUMN
# (with a minus before the column for descending) sorts when the page is opened, so that a view can be linked to.
SCRIPT = """
'use strict';
(function(){
function heads(table){return table.tHead.rows[table.tHead.rows.length-1].cells}
function key(row,n){var c=row.cells[n];var v=c.getAttribute('data-v');return v===null?c.textContent:v}
function sort(table,n,down){
 var body=table.tBodies[0],rows=Array.prototype.slice.call(body.rows),head=heads(table);
 var number=head[n].classList.contains('n');
 rows.sort(function(a,b){var x=key(a,n),y=key(b,n);
  var o=number?Number(x)-Number(y):x.localeCompare(y,'en',{numeric:true});return down?-o:o});
 rows.forEach(function(row){body.appendChild(row)});
 for(var i=0;i<head.length;i++)head[i].removeAttribute('aria-sort');
 head[n].setAttribute('aria-sort',down?'descending':'ascending');
}
Array.prototype.forEach.call(document.querySelectorAll('table.sortable'),function(table){
 Array.prototype.forEach.call(heads(table),function(th,n){
  var button=document.createElement('button');button.type='button';button.textContent=th.textContent;
  button.title='sort by this column';
  th.textContent='';th.appendChild(button);
  button.addEventListener('click',function(){sort(table,n,th.getAttribute('aria-sort')==='ascending')});
 });
 if(table.tBodies[0].rows.length<8)return;
 var box=document.createElement('div'),label=document.createElement('label'),input=document.createElement('input');
 var shown=document.createElement('span');
 box.className='filter';shown.className='dim';input.type='search';label.textContent='Only rows with ';
 label.appendChild(input);box.appendChild(label);box.appendChild(shown);
 table.parentNode.parentNode.insertBefore(box,table.parentNode);
 input.addEventListener('input',function(){
  var words=input.value.toLowerCase().split(/\\s+/),rows=table.tBodies[0].rows,count=0;
  Array.prototype.forEach.call(rows,function(row){
   var text=row.textContent.toLowerCase();
   row.hidden=!words.every(function(word){return text.indexOf(word)>=0});if(!row.hidden)count++});
  shown.textContent=input.value?count+' of '+rows.length:'';
 });
});
var wanted=/^#sort=([a-z]+),(-?)(\\d+)$/.exec(location.hash);
if(wanted){var table=document.getElementById(wanted[1]);
 if(table&&table.tHead&&Number(wanted[3])<heads(table).length){
  sort(table,Number(wanted[3]),wanted[2]==='-');table.scrollIntoView()}}
document.documentElement.classList.add('sorts');
})();
"""


def content_security_policy() -> str:
    """Return the policy under which a browser runs this script, applies this style, and loads nothing at all."""
    script, style = (_digest(each) for each in (SCRIPT, STYLE))
    return f"default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; form-action 'none'"


def _digest(inline: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
